//! What the attributes expand to calls of. Not part of the interface: it changes without notice.

/// For `#[wharf_sdk::function]`.
pub mod function {
    pub use crate::{
        answer::{call, call_async},
        bindings::{
            function as bindings,
            function::{export_function as export, exports::wharf::function::handler::Guest},
            imports::wharf::function::types::{FunctionError, InvocationContext},
        },
    };
}

/// For `#[wharf_sdk::http]`.
pub mod http {
    pub use crate::http::call;
    pub use wstd::__internal::{
        wasip2 as bindings,
        wasip2::{
            exports::http::incoming_handler::Guest,
            http::{
                proxy::export,
                types::{IncomingRequest, ResponseOutparam},
            },
        },
    };
}

/// For `#[wharf_sdk::viewer_request]`.
pub mod viewer_request {
    pub use crate::{
        bindings::{
            imports::wharf::edge::types::{Client, Request, RequestAction},
            viewer_request as bindings,
            viewer_request::{
                export_viewer_request as export, exports::wharf::edge::viewer_request::Guest,
            },
        },
        hook::call_viewer_request as call,
    };
}

/// For `#[wharf_sdk::origin_request]`.
pub mod origin_request {
    pub use crate::{
        bindings::{
            imports::wharf::edge::types::{Body, Client, Request, RequestAction},
            origin_request as bindings,
            origin_request::{
                export_origin_request as export, exports::wharf::edge::origin_request::Guest,
            },
        },
        hook::call_origin_request as call,
    };
}

/// For `#[wharf_sdk::origin_response]`.
pub mod origin_response {
    pub use crate::{
        bindings::{
            imports::wharf::edge::types::{Body, Request, Response, ResponseAction},
            origin_response as bindings,
            origin_response::{
                export_origin_response as export, exports::wharf::edge::origin_response::Guest,
            },
        },
        hook::call_origin_response as call,
    };
}

/// For `#[wharf_sdk::viewer_response]`.
pub mod viewer_response {
    pub use crate::{
        bindings::{
            imports::wharf::edge::types::{Client, Request, Response, ResponseAction},
            viewer_response as bindings,
            viewer_response::{
                export_viewer_response as export, exports::wharf::edge::viewer_response::Guest,
            },
        },
        hook::call_viewer_response as call,
    };
}
