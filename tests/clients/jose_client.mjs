// A service that verifies access tokens with jose and the published keys, and follows the feed by long polls.
//
// Reads questions from standard input and answers them as pyjwt_client.py does.

import { createInterface } from "node:readline";
import { createRemoteJWKSet, errors, jwtVerify } from "jose";

const { DOORWARD_URL: url, DOORWARD_SERVICE_TOKEN: serviceToken, DOORWARD_ALGORITHM: algorithm } = process.env;
const [silence, refetch] = [process.env.DOORWARD_SILENCE, process.env.DOORWARD_REFETCH].map((text) => Number(text) * 1000);
const PAGE = 1000;
const WAIT = 15;

let keys;
function forgetKeys() {
  keys = createRemoteJWKSet(new URL(`${url}/.well-known/jwks.json`), { cooldownDuration: refetch, cacheMaxAge: 300_000 });
}

let cursor, heard, wait, ended, roles;
function beginAgain() {
  cursor = "start";
  heard = -Infinity;
  wait = 0;
  ended = new Set();
  roles = new Map();
}

async function poll() {
  const answer = await fetch(`${url}/revocations?after=${cursor}&wait=${wait}`, {
    headers: { "X-Service-Token": serviceToken },
    signal: AbortSignal.timeout((wait + 5) * 1000),
  });
  if (answer.status === 410 || answer.status === 422) {
    forgetKeys(); // the lost events may have announced that all keys were replaced
    return beginAgain();
  }
  if (answer.status !== 200) throw new Error(`the feed answers ${answer.status}`);
  const page = await answer.json();
  for (const event of page.events) {
    if (event.kind === "session_ended") ended.add(event.session_id);
    if (event.kind === "role_changed") roles.set(event.account_id, event.role);
    if (event.kind === "keys_replaced") forgetKeys();
  }
  cursor = page.cursor;
  if (page.events.length < PAGE) {
    heard = performance.now();
    wait = WAIT;
  }
}

async function follow() {
  for (;;) {
    try {
      await poll();
    } catch (error) {
      console.error("feed:", String(error));
      wait = 0; // fetch the missed events at once, without a long poll
      await new Promise((resume) => setTimeout(resume, 250));
    }
  }
}

async function check(token) {
  if (performance.now() - heard > silence) return { status: 503 };
  try {
    const { payload } = await jwtVerify(token, keys, {
      algorithms: [algorithm],
      typ: "at+jwt",
      issuer: "doorward",
      audience: "doorward",
      maxTokenAge: "60 minutes", // jose checks iat only if this is set
      requiredClaims: ["exp", "iat", "nbf", "iss", "aud", "sub", "sid", "jti"],
    });
    if (ended.has(payload.sid)) return { status: 401, why: "the session ended" };
    const { id, nickname, role, sid: session } = payload;
    return { status: 200, user: { id, nickname, role: roles.get(id) ?? role, session } };
  } catch (error) {
    const theirs = error instanceof errors.JOSEError && error.code !== "ERR_JOSE_GENERIC" && error.code !== "ERR_JWKS_TIMEOUT";
    return { status: theirs ? 401 : 503, why: String(error) };
  }
}

async function login([email, password]) {
  const answer = await fetch(`${url}/login`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ email, password }),
  });
  return { status: answer.status, login: await answer.json() };
}

forgetKeys();
beginAgain();
follow();
for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  console.log(JSON.stringify(question.login ? await login(question.login) : await check(question.check)));
}
process.exit(0);
