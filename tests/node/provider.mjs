// An identity provider: node provider.mjs. Clients register by themselves or by a metadata document, people log in under any
// name, and access tokens are JWTs for the resource that was asked for, which must be on this machine. See control.mjs.
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { createLocalJWKSet, importJWK, jwtVerify, SignJWT } from "jose";
import { errors, Provider } from "oidc-provider";
import { controlled } from "./control.mjs";

// How long access tokens are valid; by how much their `exp` is too early; "opaque" for tokens that are no JWTs.
const settings = { seconds: 300, behind: 0, format: "jwt" };
const seen = [];
const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const keys = [newKey()];
const server = createServer((request, response) => provider.callback()(request, response));
await new Promise((resolve) => server.listen(0, "localhost", resolve));
const { port } = server.address();
const issuer = `http://localhost:${port}`;
let provider = newProvider();

function newKey() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), use: "sig", alg: "RS256" };
}

/** Return a registration without its scope: this library would never let the client ask for more. */
async function withoutScope(request) {
  let body = "";
  for await (const chunk of request) body += chunk;
  const { scope, ...rest } = JSON.parse(body);
  return JSON.stringify(rest);
}

/** Exchange an access token for one of the same user with another audience (RFC 8693); this library leaves that to its users. */
async function exchange(ctx) {
  const { subject_token: token, audience, scope } = ctx.oidc.params;
  const published = keys.map(({ kty, n, e, kid, use, alg }) => ({ kty, n, e, kid, use, alg }));
  const verified = await jwtVerify(token, createLocalJWKSet({ keys: published }), { issuer }).catch(() => {
    throw new errors.InvalidGrant("the subject token is not valid");
  });
  if (!/^http:\/\/localhost[:/]/.test(audience)) throw new errors.InvalidTarget("unknown audience");
  const claims = { scope, client_id: ctx.oidc.client.clientId, act: { sub: ctx.oidc.client.clientId } };
  const made = new SignJWT(claims).setProtectedHeader({ alg: "RS256", typ: "at+jwt", kid: keys[0].kid });
  made.setIssuer(issuer).setAudience(audience).setSubject(verified.payload.sub).setIssuedAt().setExpirationTime(`${settings.seconds}s`);
  ctx.body = {
    access_token: await made.sign(await importJWK(keys[0])),
    issued_token_type: "urn:ietf:params:oauth:token-type:access_token",
    token_type: "Bearer",
    expires_in: settings.seconds,
  };
}

function newProvider() {
  const made = new Provider(issuer, {
    jwks: { keys },
    cookies: { keys: ["a key for tests"] },
    clients: [
      { client_id: "machine", client_secret: "machine-secret", token_endpoint_auth_method: "client_secret_basic", grant_types: ["client_credentials"], redirect_uris: [], response_types: [] },
      { client_id: "a shop", client_secret: "of:a/shop+%", token_endpoint_auth_method: "client_secret_basic", grant_types: [EXCHANGE], redirect_uris: [], response_types: [] },
    ],
    scopes: ["openid", "offline_access", "read", "write"],
    clientDefaults: { token_endpoint_auth_method: "none" },
    fetch: (url, { dispatcher, ...options }) => fetch(url, options), // metadata documents are on this machine, which is refused otherwise
    formats: {
      customizers: {
        jwt(_, token, { payload }) {
          if (settings.behind) payload.exp = payload.iat - settings.behind;
        },
      },
    },
    features: {
      clientCredentials: { enabled: true },
      clientIdMetadataDocument: { enabled: true, ack: "draft-02" },
      registration: { enabled: true },
      revocation: { enabled: true },
      introspection: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo(_, asked) {
          if (!/^(localhost|127\.0\.0\.1|.*\.localhost)$/.test(new URL(asked).hostname)) throw new Error(`unknown resource ${asked}`);
          return { scope: "read write", audience: asked, accessTokenTTL: settings.seconds, accessTokenFormat: settings.format };
        },
      },
    },
  });
  const takes = ["subject_token", "subject_token_type", "requested_token_type", "audience", "resource", "scope"];
  made.registerGrantType(EXCHANGE, exchange, takes);
  made.on("grant.success", (ctx) => {
    const { grant_type: grant, resource } = ctx.oidc.params;
    seen.push({ what: grant, client: ctx.oidc.client.clientId, resource });
  });
  made.use(async (context, next) => {
    if (context.path === "/reg") context.req.body = await withoutScope(context.req);
    await next();
  });
  made.on("grant.error", (_, error) => console.error("refused:", error.error_detail ?? error));
  made.on("registration_create.success", (_, client) => seen.push({ what: "registration", client: client.clientId }));
  return made;
}

controlled(issuer, {
  set: (changes) => Object.assign(settings, changes),
  seen: () => seen,
  /** Sign by a new key from now on; with `forget`, no other key is published. */
  rotate({ forget }) {
    if (forget) keys.length = 0;
    keys.unshift(newKey());
    provider = newProvider();
  },
  down() {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  },
  up: () => new Promise((resolve) => server.listen(port, "localhost", resolve)),
});
