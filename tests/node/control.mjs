// How a test steers a provider while it runs: `POST /NAME` with JSON as the body runs that action and answers with what it returns.
import { createServer } from "node:http";

/** Serve these actions; print the issuer and the URL of the actions as one line of JSON. */
export function controlled(issuer, actions) {
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    response.end(JSON.stringify((await actions[request.url.slice(1)](JSON.parse(body))) ?? null));
  });
  server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ issuer, control: `http://127.0.0.1:${server.address().port}` })));
}
