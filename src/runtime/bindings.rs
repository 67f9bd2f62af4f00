//! What `bindgen!` makes of `wit`: the imports that are implemented in [`imports`](super::imports), and the event
//! function's export.
//!
//! wasi:cli, clocks, random, io, filesystem and http are not here: their bindings are wasmtime's.

pub(crate) use event::{EventFunction, EventFunctionPre};
pub(crate) use generated::{wasi, wharf};

mod generated {
    #![expect(unreachable_pub, missing_docs, reason = "generated code")]

    wasmtime::component::bindgen!({
        path: "wit",
        world: "wharf:node/imports",
        imports: {
            "wasi:keyvalue": async | trappable,
            "wharf:function/invoke": async | trappable,
            "wharf:function/context.remaining-fuel": store | trappable,
            default: trappable,
        },
        with: {
            "wasi:keyvalue/store@0.2.0-draft.bucket": crate::runtime::imports::key_value::Bucket,
            "wasi:keyvalue/store@0.2.0-draft2.bucket": crate::runtime::imports::key_value::Bucket,
            "wasi:keyvalue/atomics@0.2.0-draft2.cas": crate::runtime::imports::key_value::Cas,
        },
        trappable_error_type: {
            "wasi:keyvalue/store@0.2.0-draft.error" => crate::runtime::imports::key_value::Error,
            "wasi:keyvalue/store@0.2.0-draft2.error" => crate::runtime::imports::key_value::Error,
        },
    });
}

mod event {
    #![expect(unreachable_pub, missing_docs, reason = "generated code")]

    wasmtime::component::bindgen!({
        path: "wit",
        // `wharf:function/event-function` without its imports, which the linker provides and a component may leave out.
        inline: "
            package wharf:bindings;
            world event-function {
                export wharf:function/handler@0.1.0;
            }
        ",
        world: "wharf:bindings/event-function",
        exports: { default: async },
        with: {
            "wharf:function/types": super::generated::wharf::function::types,
        },
    });
}
