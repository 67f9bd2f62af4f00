// Answers every request with a greeting: a wasi:http 0.2 function in JavaScript.
addEventListener("fetch", (event) => event.respondWith(respond(event.request)));

function respond(request) {
  const name = new URL(request.url).searchParams.get("name") || "world";
  return new Response(`Hello, ${name}!\n`, {
    headers: { "content-type": "text/plain; charset=utf-8" },
  });
}
