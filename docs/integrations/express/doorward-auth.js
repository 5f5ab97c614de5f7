// Doorward's users in an Express service. Copy this file; app.js beside it shows how it is used.
//
// `offline` checks tokens with Doorward's published keys and follows its revocation feed, so that no request waits for Doorward.
// `asking` asks `/verify` about each one: for tokens that a secret signs (HS256), or where a token is seldom seen twice.
//
// Both answer 401 without a live token, 403 without the role, and 503 while it cannot be known whether a token is live.

import { createLocalJWKSet, createRemoteJWKSet, customFetch, errors, jwtVerify } from "jose";

// What Doorward puts into every access token (docs/tokens.md).
const CLAIMS = ["iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp", "id", "nickname", "role"];
const LEEWAY = 5; // seconds that the two clocks may differ
const PAGE = 1000; // events that an answer of the feed has at most
const PATIENCE = 5; // seconds that Doorward may take to begin an answer
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/; // RFC 6750, section 2.1

class Dead extends Error {} // the token is not one that is live
class Unknown extends Error {} // nobody can say at the moment whether the token is live

// Doorward may be served below a path, which `new URL("/verify", url)` would drop.
const withoutSlash = (url) => String(url).replace(/\/+$/, "");

// What may be logged of a failure, if there is something to say. The text of one that is not ours can hold a token.
const reason = (error) => (error instanceof Unknown ? error.message : (error.cause?.code ?? error.code ?? error.name));

// Middleware around `check`, which says whose token it is: `user` puts that into `request.user`, `role` lets nobody else pass.
function guard(check) {
  async function user(request, response, next) {
    // Of two headers, `request.headers` would have the first, and others may have read the second.
    const given = request.headersDistinct.authorization ?? [];
    const token = given.length === 1 && /^bearer +(\S.*)$/i.exec(given[0])?.[1].trimEnd();
    if (!token) {
      return response.status(401).set("WWW-Authenticate", "Bearer").json({ detail: "Log in first" });
    }
    try {
      // Nothing else can be live, and some of it could not even be asked about.
      if (!TOKEN.test(token)) throw new Dead();
      request.user = await check(token);
    } catch (error) {
      if (error instanceof Dead) {
        // Why is nobody's business; the log of Doorward knows.
        return response.status(401).set("WWW-Authenticate", 'Bearer error="invalid_token"').json({ detail: "Log in again" });
      }
      // Not 401: the token may be good, and its owner need not log in anew.
      if (reason(error)) console.warn("whose token it is cannot be known:", reason(error));
      return response.status(503).set("Retry-After", "5").json({ detail: "Come back in a moment" });
    }
    next();
  }
  const role = (name) => (request, response, next) => {
    if (request.user?.role === name) return next();
    response.status(403).set("WWW-Authenticate", 'Bearer error="insufficient_scope"').json({ detail: "Not for you" });
  };
  return { user, role };
}

// url           Doorward, as this service reaches it
// serviceToken  one with the scope `revocations`
// algorithm     Doorward's ALGORITHM: EdDSA, ES256 or RS256, and no other is accepted
// longestToken  Doorward's ACCESS_TOKEN_EXPIRE_MINUTES, in seconds. A revocation is remembered for as long
// silence       after how many seconds without a word of the feed no token is trusted. So long may a revoked token live if
//               the way to Doorward is cut. Doorward sends a comment every 15 seconds: one may get lost, and a restart of
//               Doorward goes unnoticed
// refetch       how often, in seconds, tokens that name an unknown key can make us fetch the keys
export function offline({
  url: given,
  serviceToken,
  algorithm,
  issuer = "doorward",
  audience = "doorward",
  longestToken = 1800,
  silence = 45,
  refetch = 30,
}) {
  const url = withoutSlash(given);
  let keys;
  const forgetKeys = () => {
    keys = publishedKeys({ url, refetch });
  };
  forgetKeys();
  const feed = follow({ url, serviceToken, longestToken, silence, forgetKeys });

  async function check(token) {
    if (!feed.upToDate()) throw new Unknown();
    const used = keys;
    let claims;
    try {
      ({ payload: claims } = await jwtVerify(token, used, {
        algorithms: [algorithm], // never what the header says
        typ: "at+jwt",
        issuer,
        audience,
        clockTolerance: LEEWAY,
        maxTokenAge: longestToken, // an older one would outlive our memory of revocations
        requiredClaims: CLAIMS,
      }));
    } catch (error) {
      throw error instanceof errors.JOSEError ? new Dead() : error;
    }
    // While the keys were waited for, they may have been replaced, the feed may have fallen silent, or what is remembered may have
    // been given up.
    if (keys !== used || !feed.upToDate()) throw new Unknown();
    if (typeof claims.aud !== "string" || feed.ended(claims.sid)) throw new Dead();
    // A role that changed since the token was issued counts, not the one in it.
    return { id: claims.id, nickname: claims.nickname, role: feed.role(claims.id) ?? claims.role, session: claims.sid };
  }
  return { ...guard(check), upToDate: feed.upToDate, close: feed.close };
}

// Doorward's published keys, in the form in which jwtVerify asks for one.
function publishedKeys({ url, refetch }) {
  let known; // what Doorward said last
  let told = false; // whether it answered the last time
  let tried = -Infinity;

  // jose counts from the last success. A fetch that fails must not be repeated by every request either.
  async function seldom(address, options) {
    const pause = known ? refetch : Math.min(refetch, PATIENCE);
    if (performance.now() - tried > pause * 1000) {
      tried = performance.now();
      told = false;
      try {
        const answer = await fetch(address, options);
        if (answer.status !== 200) throw new Unknown(`status ${answer.status}`);
        const set = await answer.json();
        createLocalJWKSet(set); // throws unless it is a set of keys
        [known, told] = [set, true];
      } catch (error) {
        console.warn("the keys of Doorward cannot be fetched, those that are known stay:", reason(error));
      }
    }
    if (!known) throw new Unknown();
    return Response.json(known);
  }

  const keys = createRemoteJWKSet(new URL(`${url}/.well-known/jwks.json`), {
    cooldownDuration: refetch * 1000,
    cacheMaxAge: 300_000, // what Cache-Control says
    headers: { "Cache-Control": "no-cache" }, // a cache on the way may have the keys from before they were replaced
    [customFetch]: seldom,
  });
  return async (header, token) => {
    try {
      return await keys(header, token);
    } catch (error) {
      // Doorward may have published a key of this name since it answered last.
      throw error instanceof errors.JWKSNoMatchingKey && !told ? new Unknown() : error;
    }
  };
}

// Follows the revocation feed until it is closed.
function follow({ url, serviceToken, longestToken, silence, forgetKeys }) {
  let cursor, heard, revoked;
  const forget = () => {
    cursor = "start";
    heard = -Infinity;
    revoked = new Map(); // sessions that ended, and new roles of accounts; the oldest first
  };
  forget();
  const upToDate = () => performance.now() - heard <= silence * 1000;
  const closing = new AbortController();

  function take(event) {
    const now = performance.now();
    const [key, role] = event.kind === "session_ended" ? [event.session_id] : [event.account_id, event.role];
    // Somebody else may have the old ones. The next request fetches the new ones.
    if (event.kind === "keys_replaced") forgetKeys();
    // Nothing is left to do for account_locked and account_deleted: each of its sessions was named before.
    if (event.kind === "session_ended" || event.kind === "role_changed") {
      revoked.delete(key); // so that it stands last again
      revoked.set(key, { now, role });
    }
    for (const [key, known] of revoked) {
      if (known.now >= now - (longestToken + 60) * 1000) break;
      revoked.delete(key); // no token is alive that was issued before this
    }
  }

  // Asks the feed. Gives up if it does not answer, and later if it says nothing for longer than it may be silent.
  async function ask(headers, read) {
    const giveUp = new AbortController();
    let timer;
    const within = (seconds) => {
      clearTimeout(timer);
      timer = setTimeout(() => giveUp.abort(new Unknown("Doorward is silent")), seconds * 1000);
    };
    within(PATIENCE);
    try {
      const answer = await fetch(`${url}/revocations?after=${cursor}`, {
        headers: { "X-Service-Token": serviceToken, ...headers },
        signal: AbortSignal.any([giveUp.signal, closing.signal]),
      });
      // 410: some of what we missed is gone. 422: this is the log of another data directory.
      if ((answer.status === 410 || answer.status === 422) && cursor !== "start") {
        forget();
        forgetKeys(); // what is gone may have told that all keys were replaced
        throw new Unknown("the feed begins again");
      }
      if (answer.status !== 200) throw new Unknown(`the feed answers ${answer.status}`);
      await read(answer, () => within(silence));
    } finally {
      clearTimeout(timer);
    }
  }

  // What happened until now, page by page.
  async function catchUp() {
    for (let more = true; more; ) {
      await ask({}, async (answer) => {
        const page = await answer.json();
        page.events.forEach(take);
        cursor = page.cursor;
        more = page.events.length === PAGE;
      });
    }
    heard = performance.now();
  }

  // What happens from now on: server-sent events, and comments as heartbeats.
  async function listen() {
    await ask({ Accept: "text/event-stream" }, async (answer, alive) => {
      let text = "";
      for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
        alive();
        const blocks = (text + piece).split("\n\n");
        text = blocks.pop();
        for (const block of blocks) {
          const field = (name) => block.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
          if (field("data")) {
            take(JSON.parse(field("data")));
            cursor = field("id");
          }
        }
        heard = performance.now();
      }
    });
  }

  (async () => {
    for (let pause = 250; !closing.signal.aborted; pause = Math.min(2 * pause, 5000)) {
      try {
        await catchUp();
        pause = 250;
        await listen();
      } catch (error) {
        if (closing.signal.aborted) return;
        console.warn("no word of revocations:", reason(error));
      }
      await new Promise((resume) => setTimeout(resume, pause));
    }
  })();

  return {
    upToDate,
    ended: (session) => revoked.has(session),
    role: (account) => revoked.get(account)?.role,
    close: () => closing.abort(),
  };
}

// serviceToken: one with the scope `verify`.
export function asking({ url: given, serviceToken }) {
  const url = withoutSlash(given);
  async function check(token) {
    const answer = await fetch(`${url}/verify`, {
      method: "POST",
      headers: { "X-Service-Token": serviceToken, Authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(PATIENCE * 1000),
    });
    if (answer.status === 401 || answer.status === 431) throw new Dead(); // 431: no live token is that long
    // 404 and 403 are about our own token, 503 is about Doorward.
    if (answer.status !== 200) throw new Unknown(`/verify answers ${answer.status}`);
    const { id, nickname, role, session_id: session } = await answer.json();
    return { id, nickname, role, session };
  }
  return { ...guard(check), upToDate: () => true, close() {} };
}
