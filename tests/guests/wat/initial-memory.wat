;; A component that wants a GiB before it runs: it cannot be instantiated within any smaller limit.
;;
;; An HTTP function (wasi:http/incoming-handler). If it can, it returns without an answer.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $incoming-request))
  (alias export $types "response-outparam" (type $response-outparam))

  (core module $Main
    (memory 16384)
    (func (export "handle") (param i32 i32)))
  (core instance $main (instantiate $Main))

  (type $handle-type (func (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))))
  (func $handle (type $handle-type) (canon lift (core func $main "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
