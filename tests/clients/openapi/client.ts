// Registers, logs in and reads the account with openapi-fetch, using the types that openapi-typescript generates. The
// file must compile in strict mode, so a type without a needed member fails before the program runs.

import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

const [baseUrl, email, password] = process.argv.slice(2) as [string, string, string];
const client = createClient<paths>({ baseUrl });

const holds = (what: string, held: boolean): void => {
  if (!held) throw new Error(what);
};

const registered = await client.POST("/register", {
  body: { email, nickname: "typed", password, passphrase: "blue heron over water" },
});
holds("registered", registered.data !== undefined && "id" in registered.data);

const login = await client.POST("/login", { body: { email, password } });
if (login.data === undefined) throw new Error(login.error.detail);
const headers = { Authorization: `${login.data.token_type} ${login.data.access_token}` };

const account = await client.GET("/my_account/", { headers });
holds("the account", account.data?.email === email && account.data.pending_email === null);

const sessions = await client.GET("/my_account/sessions", { headers });
holds("one session, which is this one", sessions.data?.sessions[0]?.current === true);

const wrong = await client.POST("/login", { body: { email, password: "another-lamp" } });
holds("a problem", wrong.error?.status === 401);
