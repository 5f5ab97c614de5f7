// A service with Doorward's users: `node app.js`.

import express from "express";
import { asking, offline } from "./doorward-auth.js";

const { env } = process;
const algorithm = env.DOORWARD_ALGORITHM ?? "EdDSA";
const common = { url: env.DOORWARD_URL, serviceToken: env.DOORWARD_SERVICE_TOKEN };
const doorward = algorithm.startsWith("HS")
  ? asking(common)
  : offline({
      ...common,
      algorithm,
      longestToken: 60 * Number(env.ACCESS_TOKEN_EXPIRE_MINUTES ?? 30),
      silence: Number(env.DOORWARD_SILENCE ?? 45),
      refetch: Number(env.DOORWARD_REFETCH ?? 30),
    });

const app = express();

app.get("/me", doorward.user, (request, response) => response.json(request.user));

app.get("/admin", doorward.user, doorward.role("admin"), (request, response) => {
  response.json({ secret: `for ${request.user.nickname}` });
});

// Keeps requests away while no token can be checked.
app.get("/health/ready", (request, response) => response.status(doorward.upToDate() ? 200 : 503).json({}));

app.listen(Number(env.PORT ?? 9000), "127.0.0.1");
