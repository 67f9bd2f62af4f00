// The hello as a Worker, for workerd.
export default {
  fetch() {
    return new Response("Hello, world!\n", { headers: { "content-type": "text/plain" } });
  },
};
