//! What wit-bindgen makes of `wit/`: the imports once, and a world for each export.
//!
//! Exports are worlds of their own because a world's exports are all or nothing, and a component exports just what its
//! attributes name. Nothing outside this crate names these modules but what the attributes expand to.
#![allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    reason = "generated"
)]

/// Everything a function may import.
pub mod imports {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package wharf:sdk;
            world imports {
                include wharf:function/imports@0.1.0;
                include wasi:keyvalue/imports@0.2.0-draft;
                include wasi:config/imports@0.2.0-rc.1;
                include wasi:logging/imports@0.1.0-draft;
                import wharf:edge/types@0.1.0;
            }
        ",
        world: "wharf:sdk/imports",
        generate_all,
        generate_unused_types: true,
    });
}

/// `wharf:function/handler`.
pub mod function {
    wit_bindgen::generate!({
        path: "wit",
        inline: "package wharf:sdk; world function { export wharf:function/handler@0.1.0; }",
        world: "wharf:sdk/function",
        with: { "wharf:function/types@0.1.0": crate::bindings::imports::wharf::function::types },
        generate_all,
        export_macro_name: "export_function",
        pub_export_macro: true,
    });
}

/// `wharf:edge/viewer-request`.
pub mod viewer_request {
    wit_bindgen::generate!({
        path: "wit",
        world: "wharf:edge/viewer-request-hook",
        with: { "wharf:edge/types@0.1.0": crate::bindings::imports::wharf::edge::types },
        generate_all,
        export_macro_name: "export_viewer_request",
        pub_export_macro: true,
    });
}

/// `wharf:edge/origin-request`.
pub mod origin_request {
    wit_bindgen::generate!({
        path: "wit",
        world: "wharf:edge/origin-request-hook",
        with: { "wharf:edge/types@0.1.0": crate::bindings::imports::wharf::edge::types },
        generate_all,
        export_macro_name: "export_origin_request",
        pub_export_macro: true,
    });
}

/// `wharf:edge/origin-response`.
pub mod origin_response {
    wit_bindgen::generate!({
        path: "wit",
        world: "wharf:edge/origin-response-hook",
        with: { "wharf:edge/types@0.1.0": crate::bindings::imports::wharf::edge::types },
        generate_all,
        export_macro_name: "export_origin_response",
        pub_export_macro: true,
    });
}

/// `wharf:edge/viewer-response`.
pub mod viewer_response {
    wit_bindgen::generate!({
        path: "wit",
        world: "wharf:edge/viewer-response-hook",
        with: { "wharf:edge/types@0.1.0": crate::bindings::imports::wharf::edge::types },
        generate_all,
        export_macro_name: "export_viewer_response",
        pub_export_macro: true,
    });
}
