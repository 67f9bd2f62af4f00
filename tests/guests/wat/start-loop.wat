;; An endless loop before any request: a core start function, which runs while the component is instantiated.
;;
;; An HTTP function (wasi:http/incoming-handler) whose handler is never reached.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $incoming-request))
  (alias export $types "response-outparam" (type $response-outparam))

  (core module $Main
    (func $start (loop $again (br $again)))
    (start $start)
    (func (export "handle") (param i32 i32)))
  (core instance $main (instantiate $Main))

  (type $handle-type (func (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))))
  (func $handle (type $handle-type) (canon lift (core func $main "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
