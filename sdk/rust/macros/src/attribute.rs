//! From an annotated function to the same function and its export.

use std::ops::RangeInclusive;

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Error, FnArg, ItemFn, ReturnType, spanned::Spanned as _};

/// Which attribute it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attribute {
    Function,
    Http,
    ViewerRequest,
    OriginRequest,
    OriginResponse,
    ViewerResponse,
}

impl Attribute {
    /// The function and its export, or the compiler errors that say what is wrong with it.
    pub(crate) fn expand(self, arguments: TokenStream, item: TokenStream) -> TokenStream {
        match self.try_expand(&arguments, item.clone()) {
            Ok(expanded) => expanded,
            // The function stays, so that only what is wrong is reported and not every use of it.
            Err(error) => {
                let error = error.into_compile_error();
                quote!(#item #error)
            }
        }
    }

    fn try_expand(self, arguments: &TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
        let attribute = self.name();
        if !arguments.is_empty() {
            return Err(Error::new(
                arguments.span(),
                format!("`{attribute}` takes no arguments; limits and names belong in wharf.toml"),
            ));
        }
        let function: ItemFn = syn::parse2(item).map_err(|error| {
            Error::new(error.span(), format!("`{attribute}` goes on a function"))
        })?;
        self.check(&function)?;
        let export = self.export(&function);
        Ok(quote! {
            // Natively nothing calls it but tests.
            #[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "called by the host, through the export"))]
            #function

            #[cfg(target_family = "wasm")]
            const _: () = { #export };
        })
    }

    /// Whether the function has a shape that the export can call.
    fn check(self, function: &ItemFn) -> Result<(), Error> {
        let attribute = self.name();
        let signature = &function.sig;
        let problem =
            |span, problem: &str| Err(Error::new(span, format!("`{attribute}` {problem}")));

        if !signature.generics.params.is_empty() {
            return problem(
                signature.generics.span(),
                "cannot go on a generic function: the host gives no types",
            );
        }
        if let Some(receiver) = signature
            .inputs
            .iter()
            .find(|input| matches!(input, FnArg::Receiver(_)))
        {
            return problem(receiver.span(), "goes on a free function, not on a method");
        }
        if let (Some(asyncness), false) = (signature.asyncness, self.may_wait()) {
            return problem(
                asyncness.span(),
                "goes on a function that is not async: a hook has nothing to wait for",
            );
        }
        if !self.parameters().contains(&signature.inputs.len()) {
            return problem(signature.paren_token.span.join(), self.wanted());
        }
        if matches!(signature.output, ReturnType::Default) {
            return problem(
                signature.ident.span(),
                "goes on a function that returns its answer",
            );
        }
        Ok(())
    }

    /// The items that make the component export the function.
    fn export(self, function: &ItemFn) -> TokenStream {
        let name = &function.sig.ident;
        // Where a local of ours is no name of the user's: the function may well be called `event`.
        let ours = Span::mixed_site();
        let module = format_ident!("{}", self.name());
        let sdk = quote!(::wharf_sdk::__private::#module);
        let waits = function.sig.asyncness.is_some();
        // The host always gives all arguments; the function may leave out the last ones.
        let all = match (function.sig.inputs.len(), *self.parameters().end()) {
            (1, 2) => quote_spanned!(ours=> |first, _| #name(first)),
            (1, 3) => quote_spanned!(ours=> |first, _, _| #name(first)),
            (2, 3) => quote_spanned!(ours=> |first, second, _| #name(first, second)),
            _ => quote!(#name),
        };
        let handle = match self {
            Self::Function => {
                let call = if waits {
                    quote!(call_async)
                } else {
                    quote!(call)
                };
                quote_spanned! {ours=>
                    fn handle(
                        event: ::std::string::String,
                        context: #sdk::InvocationContext,
                    ) -> ::core::result::Result<::std::string::String, #sdk::FunctionError> {
                        #sdk::#call(&event, context, #all)
                    }
                }
            }
            Self::Http => {
                let call = if waits {
                    quote!(#name)
                } else {
                    quote_spanned!(ours=> |request| ::core::future::ready(#name(request)))
                };
                quote_spanned! {ours=>
                    fn handle(request: #sdk::IncomingRequest, response: #sdk::ResponseOutparam) {
                        #sdk::call(request, response, #call)
                    }
                }
            }
            Self::ViewerRequest => quote_spanned! {ours=>
                fn handle(request: #sdk::Request, client: #sdk::Client) -> #sdk::RequestAction {
                    #sdk::call(request, client, #all)
                }
            },
            Self::OriginRequest => quote_spanned! {ours=>
                fn handle(
                    request: #sdk::Request,
                    client: #sdk::Client,
                    body: ::core::option::Option<#sdk::Body>,
                ) -> #sdk::RequestAction {
                    #sdk::call(request, client, body, #all)
                }
            },
            Self::OriginResponse => quote_spanned! {ours=>
                fn handle(
                    request: #sdk::Request,
                    response: #sdk::Response,
                    body: ::core::option::Option<#sdk::Body>,
                ) -> #sdk::ResponseAction {
                    #sdk::call(request, response, body, #all)
                }
            },
            Self::ViewerResponse => quote_spanned! {ours=>
                fn handle(
                    request: #sdk::Request,
                    response: #sdk::Response,
                    client: #sdk::Client,
                ) -> #sdk::ResponseAction {
                    #sdk::call(request, response, client, #all)
                }
            },
        };
        quote! {
            enum Export {}
            impl #sdk::Guest for Export { #handle }
            #sdk::export!(Export with_types_in #sdk::bindings);
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Http => "http",
            Self::ViewerRequest => "viewer_request",
            Self::OriginRequest => "origin_request",
            Self::OriginResponse => "origin_response",
            Self::ViewerResponse => "viewer_response",
        }
    }

    fn may_wait(self) -> bool {
        matches!(self, Self::Function | Self::Http)
    }

    fn parameters(self) -> RangeInclusive<usize> {
        match self {
            Self::Http => 1..=1,
            Self::Function | Self::ViewerRequest => 1..=2,
            Self::OriginRequest => 1..=3,
            Self::OriginResponse | Self::ViewerResponse => 2..=3,
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            Self::Function => "wants `(event: T)` or `(event: T, context: Context)`",
            Self::Http => "wants `(request: Request<Body>)`",
            Self::ViewerRequest => {
                "wants `(request: Request)` or `(request: Request, client: Client)`"
            }
            Self::OriginRequest => {
                "wants `(request: Request)`, and perhaps `client: Client` and `body: Option<Body>` after it"
            }
            Self::OriginResponse => {
                "wants `(request: Request, response: Response)`, and perhaps `body: Option<Body>` after it"
            }
            Self::ViewerResponse => {
                "wants `(request: Request, response: Response)`, and perhaps `client: Client` after it"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the compiler would say, or nothing.
    fn problem(attribute: Attribute, function: &str) -> Option<String> {
        let item = function.parse().expect("the test's function is Rust");
        let result = attribute.try_expand(&TokenStream::new(), item);
        result.err().map(|error| error.to_string())
    }

    #[test]
    fn the_shapes_in_the_documentation_are_taken() {
        use Attribute::{
            Function, Http, OriginRequest, OriginResponse, ViewerRequest, ViewerResponse,
        };
        for (attribute, function) in [
            (Function, "fn f(event: E) -> Result<A, X> { a }"),
            (
                Function,
                "async fn f(event: E, context: Context) -> Result<A, X> { a }",
            ),
            (
                Http,
                "async fn f(request: Request<Body>) -> Result<Response<Body>, X> { a }",
            ),
            (
                Http,
                "fn f(request: Request<Body>) -> Result<Response<Body>, X> { a }",
            ),
            (
                ViewerRequest,
                "fn f(request: Request) -> RequestAction { a }",
            ),
            (
                ViewerRequest,
                "fn f(request: Request, client: Client) -> RequestAction { a }",
            ),
            (
                OriginRequest,
                "fn f(request: Request, client: Client, body: Option<Body>) -> RequestAction { a }",
            ),
            (
                OriginResponse,
                "fn f(request: Request, response: Response) -> ResponseAction { a }",
            ),
            (
                OriginResponse,
                "fn f(request: Request, response: Response, body: Option<Body>) -> ResponseAction { a }",
            ),
            (
                ViewerResponse,
                "fn f(request: Request, response: Response, client: Client) -> ResponseAction { a }",
            ),
        ] {
            assert_eq!(problem(attribute, function), None, "{function}");
        }
    }

    #[test]
    fn a_wrong_shape_is_told_in_words() {
        use Attribute::{Function, Http, OriginResponse, ViewerRequest, ViewerResponse};
        for (attribute, function, words) in [
            (Function, "struct S;", "`function` goes on a function"),
            (
                Function,
                "fn f() -> A { a }",
                "`function` wants `(event: T)`",
            ),
            (
                Function,
                "fn f<T>(event: T) -> A { a }",
                "a generic function",
            ),
            (
                Function,
                "fn f(&self, event: E) -> A { a }",
                "not on a method",
            ),
            (Function, "fn f(event: E) {}", "returns its answer"),
            (
                Http,
                "async fn f(a: A, b: B) -> A { a }",
                "`http` wants `(request: Request<Body>)`",
            ),
            (
                ViewerRequest,
                "async fn f(request: Request) -> A { a }",
                "not async",
            ),
            (
                ViewerResponse,
                "fn f(request: Request, response: Response, client: Client, body: Option<Body>) -> A { a }",
                "wants `(request: Request, response: Response)`, and perhaps `client: Client` after it",
            ),
            (
                OriginResponse,
                "fn f(response: Response) -> A { a }",
                "wants `(request: Request, response: Response)`",
            ),
        ] {
            let problem = problem(attribute, function).expect(function);
            assert!(problem.contains(words), "{function}: {problem}");
        }
    }

    #[test]
    fn arguments_are_refused() {
        let expanded = Attribute::Http.expand(
            quote!(memory = 128),
            quote!(
                fn f() {}
            ),
        );
        let expanded = expanded.to_string();
        assert!(expanded.contains("takes no arguments"), "{expanded}");
        assert!(
            expanded.starts_with("fn f"),
            "the function stays: {expanded}"
        );
    }
}
