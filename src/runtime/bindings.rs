//! Rust types for the interfaces in `wit/`.

mod generated {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "wharf:function/event-function",
        imports: {
            "wharf:function/context.remaining-fuel": store | trappable,
            "wharf:function/invoke.invoke": async | trappable,
            default: trappable,
        },
        exports: { default: async },
    });
}

pub(super) use generated::{
    EventFunction, EventFunctionPre, wharf::function as imports,
    wharf::function::types::InvocationContext,
};
