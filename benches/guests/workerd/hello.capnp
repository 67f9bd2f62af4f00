using Workerd = import "/workerd/workerd.capnp";

# The address is given on the command line: --socket-addr http=127.0.0.1:PORT.
const config :Workerd.Config = (
  services = [(name = "hello", worker = .hello)],
  sockets = [(name = "http", http = (), service = "hello")],
);

const hello :Workerd.Worker = (
  modules = [(name = "hello.js", esModule = embed "hello.js")],
  compatibilityDate = "2026-11-01",
);
