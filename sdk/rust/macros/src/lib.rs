//! The attributes of `wharf-sdk`, which documents them.
//!
//! Each leaves the function as it stands, so that it can be called and tested natively, and adds for WebAssembly the
//! component export that calls it. What the export does is code in `wharf_sdk::__private`, not code written here.

mod attribute;

use attribute::Attribute;
use proc_macro::TokenStream;

/// Makes a function an event function (`wharf:function/handler`): see `wharf_sdk`.
#[proc_macro_attribute]
pub fn function(arguments: TokenStream, item: TokenStream) -> TokenStream {
    Attribute::Function
        .expand(arguments.into(), item.into())
        .into()
}

/// Makes a function an HTTP function (`wasi:http/incoming-handler`): see `wharf_sdk`.
#[proc_macro_attribute]
pub fn http(arguments: TokenStream, item: TokenStream) -> TokenStream {
    Attribute::Http.expand(arguments.into(), item.into()).into()
}

/// Makes a function a hook before the cache (`wharf:edge/viewer-request`): see `wharf_sdk::hook`.
#[proc_macro_attribute]
pub fn viewer_request(arguments: TokenStream, item: TokenStream) -> TokenStream {
    Attribute::ViewerRequest
        .expand(arguments.into(), item.into())
        .into()
}

/// Makes a function a hook before the origin (`wharf:edge/origin-request`): see `wharf_sdk::hook`.
#[proc_macro_attribute]
pub fn origin_request(arguments: TokenStream, item: TokenStream) -> TokenStream {
    Attribute::OriginRequest
        .expand(arguments.into(), item.into())
        .into()
}

/// Makes a function a hook after the origin (`wharf:edge/origin-response`): see `wharf_sdk::hook`.
#[proc_macro_attribute]
pub fn origin_response(arguments: TokenStream, item: TokenStream) -> TokenStream {
    Attribute::OriginResponse
        .expand(arguments.into(), item.into())
        .into()
}

/// Makes a function a hook before the client (`wharf:edge/viewer-response`): see `wharf_sdk::hook`.
#[proc_macro_attribute]
pub fn viewer_response(arguments: TokenStream, item: TokenStream) -> TokenStream {
    Attribute::ViewerResponse
        .expand(arguments.into(), item.into())
        .into()
}
