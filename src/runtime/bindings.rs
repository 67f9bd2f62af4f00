//! Rust types for the interfaces in `wit/`.

#[expect(missing_docs, reason = "generated code; the documentation is in wit/")]
mod generated {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "wharf:function/event-function",
        imports: { default: async | trappable },
        exports: { default: async },
    });
}

pub(super) use generated::{
    EventFunction, EventFunctionPre, exports::wharf::function::handler::Guest as EventHandler,
    wharf::function as imports, wharf::function::types::InvocationContext,
};
