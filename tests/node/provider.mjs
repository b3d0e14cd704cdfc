// An identity provider: node provider.mjs RESOURCE. It prints its issuer when it listens. Its client is a machine that
// gets JWT access tokens for RESOURCE, of five minutes, with the scopes it asks for.
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const resource = process.argv[2];
const server = createServer();
server.listen(0, "localhost", () => {
  const issuer = `http://localhost:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "machine",
        client_secret: "machine-secret",
        grant_types: ["client_credentials"],
        redirect_uris: [],
        response_types: [],
      },
    ],
    scopes: ["read", "write"],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, asked) => {
          if (asked !== resource) throw new Error(`unknown resource ${asked}`);
          return { scope: "read write", audience: asked, accessTokenTTL: 300, accessTokenFormat: "jwt" };
        },
      },
    },
  });
  server.on("request", provider.callback());
  console.log(issuer);
});
