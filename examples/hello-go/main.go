// Command hello is a wasi:http 0.2 function in Go. What it exports is in gen/wit_exports, which calls
// [hello/export_wasi_http_incoming_handler.Handle].
package main

import _ "hello/gen/wit_exports"

// A reactor: the host calls its exports, and nothing runs on its own.
func main() {}
