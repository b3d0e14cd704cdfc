// Another identity provider, by another implementation: node simple_provider.mjs. It has OIDC metadata only, neither registration
// nor metadata documents, no login page, no `iss` in its answers, and JWTs with `typ` JWT. See control.mjs.
import { OAuth2Server } from "oauth2-mock-server";
import { controlled } from "./control.mjs";

const seen = [];
const asked = new Map(); // the query of an authorization, by its code
const server = new OAuth2Server();
await server.issuer.keys.generate("ES256");
await server.start(0, "localhost");
const { port } = server.address();
server.service.on("beforeWellKnownOpenIdConfiguration", ({ body }) => {
  body.scopes_supported = ["read", "write", "offline_access"];
  body.grant_types_supported.push("refresh_token");
});
server.service.on("beforeAuthorizeRedirect", ({ url }, { query }) => asked.set(url.searchParams.get("code"), query));
server.service.on("beforeTokenSigning", ({ payload }, { body }) => {
  const query = asked.get(body.code ?? body.refresh_token) ?? {};
  if (payload.aud) return; // an ID token
  Object.assign(payload, { aud: body.resource ?? query.resource, scope: query.scope ?? body.scope, azp: body.client_id });
});
server.service.on("beforeResponse", ({ body: answer }, { body }) => {
  const query = asked.get(body.code ?? body.refresh_token) ?? {};
  asked.set(answer.refresh_token, query);
  answer.scope = query.scope;
  seen.push({ what: body.grant_type, client: body.client_id, resource: body.resource });
});

controlled(server.issuer.url, {
  seen: () => seen,
  async rotate() {
    await server.issuer.keys.generate("ES256", { kid: `key-${seen.length}` });
  },
  down: () => server.stop(),
  up: () => server.start(port, "localhost"),
});
