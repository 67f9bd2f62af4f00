// Answers every request with a greeting: a wasi:http 0.2 function in C.
//
// `gen/hello.h` and `gen/hello.c` are made by `wit-bindgen c` from wit/world.wit.

#include "gen/hello.h"

#include <stdlib.h>
#include <string.h>

// A stream takes at most this much in one blocking write (wasi:io/streams).
enum { CHUNK = 4096 };

static void respond(exports_wasi_http_incoming_handler_own_response_outparam_t out,
                    const char *name);
static void write_all(wasi_http_types_own_output_stream_t stream, const char *text);
static char *query_parameter(const hello_string_t *path_with_query, const char *key);

void exports_wasi_http_incoming_handler_handle(
    exports_wasi_http_incoming_handler_own_incoming_request_t request,
    exports_wasi_http_incoming_handler_own_response_outparam_t out) {
  hello_string_t path_with_query;
  char *name = NULL;
  if (wasi_http_types_method_incoming_request_path_with_query(
          wasi_http_types_borrow_incoming_request(request), &path_with_query)) {
    name = query_parameter(&path_with_query, "name");
    hello_string_free(&path_with_query);
  }
  wasi_http_types_incoming_request_drop_own(request);

  respond(out, name != NULL && name[0] != '\0' ? name : "world");
  free(name);
}

static void respond(exports_wasi_http_incoming_handler_own_response_outparam_t out,
                    const char *name) {
  static const char TYPE[] = "content-type";
  static const char VALUE[] = "text/plain; charset=utf-8";
  wasi_http_types_own_fields_t headers = wasi_http_types_constructor_fields();
  wasi_http_types_field_name_t type = {(uint8_t *)TYPE, sizeof TYPE - 1};
  wasi_http_types_field_value_t value = {(uint8_t *)VALUE, sizeof VALUE - 1};
  wasi_http_types_header_error_t refused;
  if (!wasi_http_types_method_fields_append(wasi_http_types_borrow_fields(headers), &type, &value,
                                            &refused))
    abort();

  wasi_http_types_own_outgoing_response_t response =
      wasi_http_types_constructor_outgoing_response(headers);
  wasi_http_types_own_outgoing_body_t body;
  wasi_http_types_own_output_stream_t stream;
  if (!wasi_http_types_method_outgoing_response_body(
          wasi_http_types_borrow_outgoing_response(response), &body) ||
      !wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(body),
                                                  &stream))
    abort();

  // The head goes out here; the body follows as it is written.
  wasi_http_types_result_own_outgoing_response_error_code_t answer = {.is_err = false,
                                                                      .val.ok = response};
  wasi_http_types_static_response_outparam_set(out, &answer);

  write_all(stream, "Hello, ");
  write_all(stream, name);
  write_all(stream, "!\n");
  wasi_io_streams_output_stream_drop_own(stream);

  wasi_http_types_error_code_t error;
  if (!wasi_http_types_static_outgoing_body_finish(body, NULL, &error))
    wasi_http_types_error_code_free(&error);
}

// Writes `text`, or as much of it as the client still wants.
static void write_all(wasi_http_types_own_output_stream_t stream, const char *text) {
  size_t left = strlen(text);
  while (left > 0) {
    hello_list_u8_t chunk = {(uint8_t *)text, left < CHUNK ? left : CHUNK};
    wasi_io_streams_stream_error_t error;
    if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(
            wasi_io_streams_borrow_output_stream(stream), &chunk, &error)) {
      wasi_io_streams_stream_error_free(&error);
      return;
    }
    text += chunk.len;
    left -= chunk.len;
  }
}

static int hex_digit(uint8_t c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The decoded value of the first `key` in the query, to be freed; NULL if there is none.
static char *query_parameter(const hello_string_t *path_with_query, const char *key) {
  const uint8_t *end = path_with_query->ptr + path_with_query->len;
  const uint8_t *at = memchr(path_with_query->ptr, '?', path_with_query->len);
  size_t key_length = strlen(key);

  while (at != NULL) {
    at++; // past the `?` or the `&`
    const uint8_t *next = memchr(at, '&', (size_t)(end - at));
    const uint8_t *pair_end = next != NULL ? next : end;
    size_t length = (size_t)(pair_end - at);
    if (length > key_length && memcmp(at, key, key_length) == 0 && at[key_length] == '=') {
      at += key_length + 1;
      char *value = malloc((size_t)(pair_end - at) + 1), *to = value;
      if (value == NULL) abort();
      while (at < pair_end) {
        uint8_t c = *at++;
        if (c == '+') {
          c = ' ';
        } else if (c == '%' && pair_end - at >= 2 && hex_digit(at[0]) >= 0 && hex_digit(at[1]) >= 0) {
          c = (uint8_t)(hex_digit(at[0]) << 4 | hex_digit(at[1]));
          at += 2;
        }
        *to++ = (char)c;
      }
      *to = '\0';
      return value;
    }
    at = next;
  }
  return NULL;
}
