;; A memory bomb without memory: a request grows a table, of host pointers, until that is refused, and then traps.
;;
;; An HTTP function (wasi:http/incoming-handler).
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $incoming-request))
  (alias export $types "response-outparam" (type $response-outparam))

  (core module $Main
    (table $table 1 funcref)
    (func (export "handle") (param i32 i32)
      (loop $again
        (br_if $again (i32.ne (table.grow $table (ref.null func) (i32.const 4096)) (i32.const -1))))
      unreachable))
  (core instance $main (instantiate $Main))

  (type $handle-type (func (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))))
  (func $handle (type $handle-type) (canon lift (core func $main "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
