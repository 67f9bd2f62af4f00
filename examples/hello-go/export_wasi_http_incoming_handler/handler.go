// Package export_wasi_http_incoming_handler answers every request with a greeting. The bindings look for the
// exported interface wasi:http/incoming-handler under this name.
package export_wasi_http_incoming_handler

import (
	"net/url"

	types "hello/gen/wasi_http_types"
	streams "hello/gen/wasi_io_streams"

	wit "go.bytecodealliance.org/pkg/wit/types"
)

// A stream takes at most this many bytes in one blocking write (wasi:io/streams).
const chunk = 4096

// Handle answers one request.
func Handle(request *types.IncomingRequest, out *types.ResponseOutparam) {
	defer request.Drop()
	name := "world"
	if target, err := url.Parse(request.PathWithQuery().SomeOr("/")); err == nil {
		if given := target.Query().Get("name"); given != "" {
			name = given
		}
	}
	respond(out, "Hello, "+name+"!\n")
}

func respond(out *types.ResponseOutparam, text string) {
	headers := types.FieldsFromList([]wit.Tuple2[string, []byte]{
		{F0: "content-type", F1: []byte("text/plain; charset=utf-8")},
	}).Ok()
	response := types.MakeOutgoingResponse(headers)
	body := response.Body().Ok()

	// The head goes out here; the body follows as it is written.
	types.ResponseOutparamSet(out, wit.Ok[*types.OutgoingResponse, types.ErrorCode](response))

	stream := body.Write().Ok()
	write(stream, []byte(text))
	stream.Drop()
	types.OutgoingBodyFinish(body, wit.None[*types.Fields]())
}

// write sends content, or as much of it as the client still wants.
func write(stream *streams.OutputStream, content []byte) {
	for len(content) > 0 {
		size := min(len(content), chunk)
		if stream.BlockingWriteAndFlush(content[:size]).IsErr() {
			return
		}
		content = content[size:]
	}
}
