//! What `hook` does, as a proxy-wasm filter: Envoy's way.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Choose))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Choose;

impl Context for Choose {}

impl HttpContext for Choose {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let variant = match self.get_http_request_header("cookie") {
            Some(cookies) if cookies.split("; ").any(|cookie| cookie == "variant=b") => "b",
            _ => "a",
        };
        self.set_http_request_header("x-variant", Some(variant));
        Action::Continue
    }
}
