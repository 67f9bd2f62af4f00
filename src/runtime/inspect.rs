//! What a component is, before it is deployed anywhere.

use serde::Serialize;

use super::{compile::describe, component::prepare, engine, instance};
use crate::model::{Digest, Kind};

/// What a component exports, imports and needs, and whether this program can run it.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Its SHA-256.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The size of its compiled code in bytes.
    pub compiled_size: u64,
    /// How it would be called, if it can be run.
    pub kind: Option<Kind>,
    /// Why it cannot be run: the import that is missing, or that it exports nothing that is called.
    pub problem: Option<String>,
    /// The interfaces and functions it exports.
    pub exports: Vec<String>,
    /// The interfaces and functions it imports.
    pub imports: Vec<String>,
    /// Its linear memories, if that can be told without running it.
    pub memories: Option<u32>,
    /// The bytes of its largest memory at the start.
    pub initial_memory: Option<u64>,
}

/// Looks at a component. It is compiled, in this process and without limits: for a component of one's own.
///
/// # Errors
///
/// The bytes are no component: the message says what they are or where they go wrong.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, String> {
    let plain = |error: wasmtime::Error| describe(&error);
    if bytes.starts_with(b"\0asm\x01\0\0\0") {
        return Err(
            "this is a core module, not a component: build it for wasm32-wasip2, or make it one with \
             `wasm-tools component new`"
                .to_owned(),
        );
    }
    let (component, concurrency) = engine::compile(bytes).map_err(plain)?;
    let linker = instance::linker(component.engine(), concurrency).map_err(plain)?;
    let (kind, problem) = match prepare(&component, &linker) {
        Ok(prepared) => (Some(prepared.target.kind()), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let types = component.component_type();
    let resources = component.resources_required();
    let image = component.image_range();
    Ok(Inspection {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        compiled_size: (image.end.addr() - image.start.addr()) as u64,
        kind,
        problem,
        exports: types
            .exports(component.engine())
            .map(|(name, _)| name.to_owned())
            .collect(),
        imports: types
            .imports(component.engine())
            .map(|(name, _)| name.to_owned())
            .collect(),
        memories: resources.as_ref().map(|resources| resources.num_memories),
        // wasmtime counts pages of 64 KiB.
        initial_memory: resources
            .and_then(|resources| resources.max_initial_memory_size)
            .map(|pages| pages << 16),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::hook::Point, runtime::bindings};

    #[test]
    fn what_is_no_component_is_told_apart() {
        let core = inspect(b"\0asm\x01\0\0\0").unwrap_err();
        assert!(core.contains("core module"), "{core}");
        inspect(b"").unwrap_err();
        inspect(b"hello").unwrap_err();
        inspect(b"\0asm\x0d\0\x01\0\xff").unwrap_err();
    }

    #[test]
    fn a_hook_is_told_by_its_points_and_its_types_are_looked_at() {
        let of = |world: &str| inspect(&bindings::tests::component_of(world)).unwrap();
        let two =
            of("export wharf:edge/origin-request@0.1.0; export wharf:edge/viewer-response@0.1.0;");
        let points = [Point::OriginRequest, Point::ViewerResponse];
        assert_eq!(two.kind, Some(Kind::Hook(points.into_iter().collect())));
        let function =
            of("export wharf:function/handler@0.1.0; export wharf:edge/viewer-request@0.1.0;");
        assert_eq!(function.kind, Some(Kind::Event));

        let other = wat::parse_str(
            r#"(component
                (core module $Main (func (export "handle")))
                (core instance $main (instantiate $Main))
                (func $handle (canon lift (core func $main "handle")))
                (instance $hook (export "handle" (func $handle)))
                (export "wharf:edge/viewer-request@0.1.0" (instance $hook)))"#,
        );
        let other = inspect(&other.unwrap()).unwrap();
        assert_eq!(other.kind, None);
        let problem = other.problem.unwrap();
        assert!(problem.contains("hook viewer-request"), "{problem}");
    }

    #[test]
    fn a_component_that_exports_nothing_cannot_be_called() {
        let inspection = inspect(b"\0asm\x0d\0\x01\0").unwrap();
        assert_eq!(inspection.kind, None);
        assert!(inspection.problem.unwrap().contains("exports nothing"));
    }
}
