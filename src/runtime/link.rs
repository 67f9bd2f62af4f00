//! Linking a function's component with those in its layers, into one component.
//!
//! An import of the function is given to the layer component that exports it: the same name in a version that is good for
//! it, the last layer first. The imports of that component are given likewise to others. Each layer component that is
//! needed is instantiated once, for all who import from it. What no layer exports stays an import, for the node to have or
//! to miss.
//!
//! Like compiling it reads what strangers made, and so it is done by a child process. What comes out is compiled as if
//! somebody had deployed it.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use wac_graph::{
    CompositionGraph, EncodeOptions, NodeId, PackageId,
    types::{ItemKind, Package, SubtypeChecker, are_semver_compatible},
};

use super::child::{self, ChildError, Program};

/// What the child says when it linked something, and when there was nothing to link.
const LINKED: &str = "linked";
const NOTHING: &str = "nothing";

/// Why a function is not linked with its layers.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// What is to be linked is no component, or does not fit.
    #[error("{0}")]
    Invalid(String),
    /// Linking took more than it may.
    #[error("linking the function with its layers was stopped: {0}")]
    Limit(&'static str),
    /// The linker crashed.
    #[error("linking the function with its layers ended unexpectedly ({0})")]
    Crashed(String),
    /// The child could not be run.
    #[error("{doing} {}", path.display())]
    System {
        /// What was being done, as in `start`.
        doing: &'static str,
        /// The program.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// The node's side: has it done.
#[derive(Debug)]
pub(super) struct Linker {
    program: Program,
}

impl Linker {
    pub(super) fn new(program: Program) -> Self {
        Self { program }
    }

    /// See [`Runtime::link`](super::Runtime::link).
    pub(super) async fn link(
        &self,
        function: &Path,
        layers: &[(String, PathBuf)],
        output: &Path,
    ) -> Result<bool, LinkError> {
        let files = [output.as_os_str(), function.as_os_str()];
        let layers = layers
            .iter()
            .flat_map(|(name, path)| [OsStr::new(name), path.as_os_str()]);
        let answer = self
            .program
            .run("__link", files.into_iter().chain(layers))
            .await
            .map_err(|error| match error {
                ChildError::Said(said) => LinkError::Invalid(said),
                ChildError::Limit(limit) => LinkError::Limit(limit),
                ChildError::Crashed(how) => LinkError::Crashed(how),
                ChildError::System(doing, source) => LinkError::System {
                    doing,
                    path: self.program.path.clone(),
                    source,
                },
            })?;
        match answer.as_slice() {
            answer if answer == LINKED.as_bytes() => Ok(true),
            answer if answer == NOTHING.as_bytes() => Ok(false),
            _ => Err(LinkError::Crashed("it did not say what it did".to_owned())),
        }
    }
}

/// The child's side: links the component in `function` with those in `layers`, each with a name for messages, into
/// `output`, held to `cpu` seconds and `memory` bytes. Gives what the node reads from standard output.
///
/// # Errors
///
/// The message is for the user who deployed: it names what is wrong and with which of them.
pub fn link_child(
    cpu: u64,
    memory: u64,
    output: &Path,
    function: &Path,
    layers: &[(String, PathBuf)],
) -> anyhow::Result<&'static str> {
    child::hold_to(cpu, memory)?;
    let function = fs::read(function).context("read the component")?;
    let layers = layers
        .iter()
        .map(|(name, path)| {
            let bytes = fs::read(path).with_context(|| format!("read {name}"))?;
            Ok((name.clone(), bytes))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    match link(function, layers)? {
        Some(linked) => {
            fs::write(output, linked).context("write the linked component")?;
            Ok(LINKED)
        }
        None => Ok(NOTHING),
    }
}

/// The linked component, or none where there is nothing to link.
fn link(function: Vec<u8>, layers: Vec<(String, Vec<u8>)>) -> anyhow::Result<Option<Vec<u8>>> {
    let mut graph = CompositionGraph::new();
    let mut register = |key: &str, name: &str, bytes: Vec<u8>| {
        let package = Package::from_bytes(key, None, bytes, graph.types_mut())
            .with_context(|| format!("{name} is not a component that can be linked"))?;
        anyhow::Ok(graph.register_package(package)?)
    };
    let function = register("wharf:function", "the function", function)?;
    let mut parts = Vec::with_capacity(layers.len());
    for (index, (name, bytes)) in layers.into_iter().enumerate() {
        let package = register(&format!("wharf:layer{index}"), &name, bytes)?;
        parts.push(Part {
            name,
            package,
            instance: None,
            open: false,
        });
    }
    let mut linking = Linking { graph, parts };
    let instance = linking.instantiate(function, "the function")?;
    let mut graph = linking.graph;
    if graph.get_instantiation_arguments(instance).next().is_none() {
        return Ok(None);
    }
    let exports: Vec<String> = world(&graph, function).1.map(|(name, _)| name).collect();
    for name in exports {
        let export = graph.alias_instance_export(instance, &name)?;
        graph.export(export, &name)?;
    }
    // Whether it is valid is for the engine to say, which looks at it anyway.
    let options = EncodeOptions {
        validate: false,
        ..EncodeOptions::default()
    };
    Ok(Some(graph.encode(options)?))
}

/// A component of a layer.
struct Part {
    name: String,
    package: PackageId,
    instance: Option<NodeId>,
    /// Its own imports are being linked.
    open: bool,
}

struct Linking {
    graph: CompositionGraph,
    parts: Vec<Part>,
}

impl Linking {
    /// Instantiates a component with what the layers have for its imports.
    fn instantiate(&mut self, package: PackageId, name: &str) -> anyhow::Result<NodeId> {
        let instance = self.graph.instantiate(package);
        let imports: Vec<(String, ItemKind)> = world(&self.graph, package).0.collect();
        for (import, wanted) in imports {
            // The others are types of the component's own.
            if !matches!(wanted, ItemKind::Instance(_) | ItemKind::Func(_)) {
                continue;
            }
            let Some((part, export)) = self.find(name, &import, wanted)? else {
                continue;
            };
            let from = self.part(part)?;
            let export = self.graph.alias_instance_export(from, &export)?;
            self.graph
                .set_instantiation_argument(instance, &import, export)?;
        }
        Ok(instance)
    }

    /// The instance of a layer's component, made when it is first wanted.
    fn part(&mut self, index: usize) -> anyhow::Result<NodeId> {
        if let Some(instance) = self.parts[index].instance {
            return Ok(instance);
        }
        let (package, name) = (self.parts[index].package, self.parts[index].name.clone());
        self.parts[index].open = true;
        let instance = self.instantiate(package, &name)?;
        self.parts[index].open = false;
        self.parts[index].instance = Some(instance);
        Ok(instance)
    }

    /// The component that exports what `importer` imports, and how it calls it. One that is being linked itself is passed
    /// over: nothing can be before itself.
    fn find(
        &self,
        importer: &str,
        import: &str,
        wanted: ItemKind,
    ) -> anyhow::Result<Option<(usize, String)>> {
        let types = self.graph.types();
        let parts = || self.parts.iter().enumerate().rev();
        for (index, part) in parts().filter(|(_, part)| !part.open) {
            let Some(offered) = types[self.graph[part.package].ty()].exports.get(import) else {
                continue;
            };
            self.check_fit(*offered, wanted).with_context(|| {
                format!(
                    "{} exports `{import}` in another form than {importer} imports it",
                    part.name
                )
            })?;
            return Ok(Some((index, import.to_owned())));
        }
        for (index, part) in parts().filter(|(_, part)| !part.open) {
            let mut exports = types[self.graph[part.package].ty()].exports.iter();
            let fitting = exports.find(|(export, offered)| {
                are_semver_compatible(export, import) && self.check_fit(**offered, wanted).is_ok()
            });
            if let Some((export, _)) = fitting {
                return Ok(Some((index, export.clone())));
            }
        }
        Ok(None)
    }

    fn check_fit(&self, offered: ItemKind, wanted: ItemKind) -> anyhow::Result<()> {
        let types = self.graph.types();
        let mut seen = std::collections::HashSet::new();
        SubtypeChecker::new(&mut seen).is_subtype(offered, types, wanted, types)
    }
}

/// What a component imports, and what it exports.
fn world(
    graph: &CompositionGraph,
    package: PackageId,
) -> (
    impl Iterator<Item = (String, ItemKind)> + '_,
    impl Iterator<Item = (String, ItemKind)> + '_,
) {
    let world = &graph.types()[graph[package].ty()];
    let named = |(name, kind): (&String, &ItemKind)| (name.clone(), *kind);
    (
        world.imports.iter().map(named),
        world.exports.iter().map(named),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component of these interfaces, each with a function that gives text.
    fn component(imports: &[&str], exports: &[&str]) -> Vec<u8> {
        use wit_component::{
            ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata,
        };
        use wit_parser::{ManglingAndAbi, Resolve};
        let mut packages = std::collections::BTreeMap::<String, Vec<&str>>::new();
        let mut items = String::new();
        for (verb, names) in [("import", imports), ("export", exports)] {
            for name in names {
                let (package, rest) = name.split_once('/').unwrap();
                let (interface, version) = rest.split_once('@').unwrap();
                packages
                    .entry(format!("{package}@{version}"))
                    .or_default()
                    .push(interface);
                items.push_str(&format!("{verb} {name};\n"));
            }
        }
        let mut wit = String::from("package test:test;\n");
        for (package, interfaces) in packages {
            wit.push_str(&format!("package {package} {{\n"));
            for interface in interfaces {
                wit.push_str(&format!(
                    "interface {interface} {{ say: func() -> string; }}\n"
                ));
            }
            wit.push_str("}\n");
        }
        wit.push_str(&format!("world test {{\n{items}}}\n"));
        encode(&wit, |resolve: &mut Resolve, package| {
            let world = resolve.select_world(&[package], Some("test")).unwrap();
            let mut module = dummy_module(resolve, world, ManglingAndAbi::Standard32);
            embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).unwrap();
            ComponentEncoder::default()
                .module(&module)
                .unwrap()
                .encode()
                .unwrap()
        })
    }

    fn encode(
        wit: &str,
        make: impl FnOnce(&mut wit_parser::Resolve, wit_parser::PackageId) -> Vec<u8>,
    ) -> Vec<u8> {
        let mut resolve = wit_parser::Resolve::default();
        let package = resolve.push_str("test.wit", wit).unwrap();
        make(&mut resolve, package)
    }

    fn linked(function: Vec<u8>, layers: &[Vec<u8>]) -> anyhow::Result<Option<Vec<u8>>> {
        let named = layers.iter().enumerate();
        let layers = named.map(|(index, bytes)| (format!("layer {index}"), bytes.clone()));
        link(function, layers.collect())
    }

    /// The imports of what came out, which an engine takes.
    fn imports(linked: Option<Vec<u8>>) -> Vec<String> {
        let bytes = linked.expect("something was linked");
        let (component, _) = super::super::engine::compile(&bytes).unwrap();
        let types = component.component_type();
        let imports = types.imports(component.engine());
        imports.map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn what_layers_export_is_linked_and_the_rest_stays_an_import() {
        let function = component(&["a:a/hello@1.0.0", "a:a/other@1.0.0"], &["a:a/run@1.0.0"]);
        let hello = component(&[], &["a:a/hello@1.0.0"]);
        let both = linked(function.clone(), std::slice::from_ref(&hello)).unwrap();
        assert_eq!(imports(both), ["a:a/other@1.0.0"]);
        assert!(linked(hello, &[function]).unwrap().is_none());
    }

    #[test]
    fn layers_use_each_other_and_never_themselves() {
        let function = component(&["a:a/hello@1.0.0"], &["a:a/run@1.0.0"]);
        let hello = component(&["b:b/name@1.0.0"], &["a:a/hello@1.0.0"]);
        let name = component(&["a:a/hello@1.0.0"], &["b:b/name@1.0.0"]);
        let together = linked(function, &[hello, name]).unwrap();
        // The circle is open where it would close: the node has to have it.
        assert_eq!(imports(together), ["a:a/hello@1.0.0"]);
    }

    #[test]
    fn a_version_that_is_good_for_the_import_is_taken() {
        let function = component(&["a:a/hello@1.1.0"], &["a:a/run@1.0.0"]);
        for (version, fits) in [("1.1.0", true), ("1.2.3", true), ("2.0.0", false)] {
            let layer = component(&[], &[&format!("a:a/hello@{version}")]);
            let linked = linked(function.clone(), &[layer]).unwrap();
            assert_eq!(linked.is_some(), fits, "{version}");
        }
    }

    #[test]
    fn an_export_of_another_form_is_an_error_that_names_both() {
        let function = component(&["a:a/hello@1.0.0"], &["a:a/run@1.0.0"]);
        let text = r#"(component
            (type $t (func (result u32)))
            (core module $m (func (export "say") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func $say (type $t) (canon lift (core func $i "say")))
            (instance $hello (export "say" (func $say)))
            (export "a:a/hello@1.0.0" (instance $hello)))"#;
        let error = linked(function, &[wat::parse_str(text).unwrap()]).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains("layer 0 exports `a:a/hello@1.0.0` in another form than the function"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_component_is_named() {
        let function = component(&["a:a/hello@1.0.0"], &[]);
        for bytes in [&b""[..], b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0\xff"] {
            let error = linked(function.clone(), &[bytes.to_vec()]).unwrap_err();
            assert!(format!("{error:#}").contains("layer 0 is not"), "{error:#}");
        }
    }
}
