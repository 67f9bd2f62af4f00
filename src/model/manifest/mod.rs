//! The manifest of an app, `wharf.toml`: its functions, how they are built and run, its routes and its distributions.
//!
//! Text goes in, a checked [`Manifest`] comes out, or every problem there is with its line. It goes in three steps, a
//! file each: the text becomes a [`document`] that remembers where each key stands, the document becomes
//! [`table`]s of the right shape, and the checks here make values of them. Nothing is read from disk: whether a
//! component or a folder exists is asked when it is used.
//!
//! The tables are also what the JSON schema for editors is made of, so the two cannot part.

mod distribution;
mod document;
mod schema;
mod table;
mod value;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::{
    Answer, CertificateFiles, Distribution, DistributionName, FileGrant, FunctionConfiguration,
    FunctionName, RedirectStatus, Route, RoutePattern, SecretSource, text::nearest,
};
use document::Document;
pub use document::{ManifestError, Problem};
pub use schema::manifest_schema;
use table::{FunctionTable, ManifestTable, ProcessTable, RouteTable, SecretTable};

/// An app as its manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The app's name; it follows the rule for names of functions.
    pub name: FunctionName,
    /// The functions.
    pub functions: BTreeMap<FunctionName, ManifestFunction>,
    /// The routes, in the order of the file; their order has no meaning.
    pub routes: Vec<Route>,
    /// The distributions. What is wrong within one was found.
    pub distributions: BTreeMap<DistributionName, Distribution>,
    /// The files of the distributions' own certificates, which are not in the distributions yet.
    pub certificates: BTreeMap<DistributionName, CertificateFiles>,
    /// What runs beside the app while it is developed; nothing that is deployed.
    pub processes: BTreeMap<FunctionName, Process>,
}

/// A command that runs as long as its app is developed, such as an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The command for the shell.
    pub command: String,
    /// Where it is run.
    pub folder: PathBuf,
}

/// A function as the manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFunction {
    /// Where its component comes from.
    pub code: Code,
    /// How it runs. Secrets are not in its environment yet.
    pub configuration: FunctionConfiguration,
    /// Environment variables whose values the manifest does not hold.
    pub secrets: BTreeMap<String, SecretSource>,
}

/// Where a component comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// It is there already.
    Component(PathBuf),
    /// It is built.
    Source {
        /// The folder with the source.
        folder: PathBuf,
        /// The command for the shell, run in the folder; none means what the folder's kind of project needs.
        command: Option<String>,
        /// The component that the build makes; always there beside a command.
        component: Option<PathBuf>,
    },
}

impl Manifest {
    /// Reads a manifest. `path` is the file's name in messages; paths in the manifest are taken from `folder`.
    pub fn parse(text: &str, path: &Path, folder: &Path) -> Result<Self, ManifestError> {
        let mut document = Document::parse(text, path)?;
        let table: ManifestTable = document.read()?;
        let mut check = Check {
            document,
            folder,
            problems: Vec::new(),
        };
        let manifest = check.manifest(table);
        check.document.finish(manifest, check.problems)
    }
}

/// The checks of one manifest: what is wrong is noted, and the check goes on.
struct Check<'a> {
    document: Document<'a>,
    folder: &'a Path,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn problem(&mut self, key: &[impl AsRef<str>], message: impl Into<String>) {
        let problem = self.document.problem_with(key, message.into());
        self.problems.push(problem);
    }

    fn manifest(&mut self, table: ManifestTable) -> Manifest {
        if table.functions.is_empty() && table.routes.is_empty() && table.distributions.is_empty() {
            self.problem(
                &[""; 0],
                "the app is empty: add a function, such as `[functions.hello]`, a route or a distribution",
            );
        }
        let functions: BTreeMap<_, _> = table
            .functions
            .into_iter()
            .map(|(name, table)| {
                let function = self.function(&name, table);
                (name, function)
            })
            .collect();
        let mut routes: Vec<(usize, Route)> = Vec::new();
        for (index, table) in table.routes.into_iter().enumerate() {
            let Some(route) = self.route(&index.to_string(), table, &functions) else {
                continue;
            };
            let rival = routes
                .iter()
                .find(|(_, earlier)| earlier.pattern.conflicts_with(&route.pattern));
            if let Some((_, rival)) = rival {
                let message = format!(
                    "`{}` is for requests that the route `{}` above has already: change its host, path or methods",
                    route.pattern, rival.pattern
                );
                self.problem(&["routes", &index.to_string(), "path"], message);
            }
            routes.push((index, route));
        }
        let certificates = self.certificates(&table.distributions);
        let distributions = self.distributions(table.distributions, &functions, &routes);
        Manifest {
            name: table.name,
            functions,
            routes: routes.into_iter().map(|(_, route)| route).collect(),
            distributions,
            certificates,
            processes: self.processes(table.processes),
        }
    }

    fn processes(
        &mut self,
        tables: BTreeMap<FunctionName, ProcessTable>,
    ) -> BTreeMap<FunctionName, Process> {
        let mut processes = BTreeMap::new();
        for (name, table) in tables {
            if table.command.trim().is_empty() || table.command.contains('\0') {
                let key = ["processes", name.as_str(), "command"];
                self.problem(&key, "say what to run, such as `python3 origin.py`");
            }
            let folder = table.folder.as_deref().unwrap_or(Path::new("."));
            let process = Process {
                command: table.command,
                folder: self.folder.join(folder).components().collect(),
            };
            processes.insert(name, process);
        }
        processes
    }

    fn function(&mut self, name: &FunctionName, table: FunctionTable) -> ManifestFunction {
        let name = name.as_str();
        let code = self.code(name, &table);
        self.environment(name, &table);
        let secrets = self.secrets(name, &table.secrets);
        let configuration = self.configuration(table);
        if let Err(invalid) = configuration.validate() {
            self.problem(&["functions", name, invalid.key], invalid.problem);
        }
        ManifestFunction {
            code,
            configuration,
            secrets,
        }
    }

    fn code(&mut self, name: &str, table: &FunctionTable) -> Code {
        let component = table.component.as_ref().map(|path| self.folder.join(path));
        if let (Some(component), None, None) = (&component, &table.source, &table.build) {
            return Code::Component(component.clone());
        }
        if table.build.is_some() && component.is_none() {
            self.problem(
                &["functions", name, "build"],
                "say with `component` which file the command makes",
            );
        }
        let folder = table.source.as_deref().unwrap_or(Path::new("."));
        Code::Source {
            folder: self.folder.join(folder).components().collect(),
            command: table.build.clone(),
            component,
        }
    }

    fn environment(&mut self, name: &str, table: &FunctionTable) {
        let variables = table.environment.keys().map(|key| ("environment", key));
        let secrets = table.secrets.keys().map(|key| ("secrets", key));
        for (group, variable) in variables.chain(secrets) {
            if variable.is_empty() || variable.contains(['=', '\0']) {
                self.problem(
                    &["functions", name, group, variable],
                    "the name of an environment variable is not empty and has no `=`",
                );
            }
        }
        for (variable, value) in &table.environment {
            if value.contains('\0') {
                self.problem(
                    &["functions", name, "environment", variable],
                    "the value of an environment variable has no NUL",
                );
            }
        }
        for variable in table.secrets.keys() {
            if table.environment.contains_key(variable) {
                self.problem(
                    &["functions", name, "secrets", variable],
                    "`environment` has this variable too: leave one of them out",
                );
            }
        }
    }

    fn secrets(
        &mut self,
        name: &str,
        table: &BTreeMap<String, SecretTable>,
    ) -> BTreeMap<String, SecretSource> {
        let mut secrets = BTreeMap::new();
        for (variable, secret) in table {
            let source = match (&secret.env, &secret.file) {
                (Some(variable), None) => SecretSource::Env(variable.clone()),
                (None, Some(path)) => SecretSource::File(self.folder.join(path)),
                (None, None) | (Some(_), Some(_)) => {
                    self.problem(
                        &["functions", name, "secrets", variable],
                        "say where the secret is read: either `env` or `file`",
                    );
                    continue;
                }
            };
            secrets.insert(variable.clone(), source);
        }
        secrets
    }

    /// Takes what is written; what is not keeps its default.
    fn configuration(&self, table: FunctionTable) -> FunctionConfiguration {
        let default = FunctionConfiguration::default();
        FunctionConfiguration {
            // The manifest names them beside, and a deployment puts them here.
            secrets: BTreeMap::new(),
            description: table.description.unwrap_or_default(),
            memory: table.memory.map(|size| size.0),
            timeout: table.timeout.map(|time| time.0),
            fuel: table.fuel,
            cpu: table.cpu.map(|time| time.0),
            environment: table.environment,
            config: table.config,
            isolation: table.isolation.map_or(default.isolation, Into::into),
            pool: table.pool.map_or(default.pool, Into::into),
            concurrency: table.concurrency,
            outbound: table.outbound.into_iter().map(|place| place.0).collect(),
            key_value: table.key_value.map(|stores| stores.0).unwrap_or_default(),
            files: table
                .files
                .into_iter()
                .map(|grant| FileGrant {
                    source: self.folder.join(grant.source).components().collect(),
                    mount: grant.mount,
                    writable: grant.writable,
                })
                .collect(),
            tmp: table.tmp.map_or(default.tmp, |size| size.0),
            response: table.response.map_or(default.response, |size| size.0),
            outbound_requests: table.outbound_requests.unwrap_or(default.outbound_requests),
            outbound_concurrency: table
                .outbound_concurrency
                .unwrap_or(default.outbound_concurrency),
            log: table.log.map_or(default.log, |size| size.0),
            receipt: table.receipt,
        }
    }

    /// The route, unless too little of it is right to go on with.
    fn route(
        &mut self,
        index: &str,
        table: RouteTable,
        functions: &BTreeMap<FunctionName, ManifestFunction>,
    ) -> Option<Route> {
        let methods = self.methods(&["routes", index, "methods"], table.methods);
        let pattern = RoutePattern {
            host: table.host,
            path: table.path,
            methods,
        };
        let answer = match (table.function, table.response, table.redirect) {
            (Some(function), None, None) => {
                let key = ["routes", index, "function"];
                self.function_is_there(&key, &function, functions);
                Answer::Function(function)
            }
            (None, Some(response), None) => Answer::Respond {
                status: self.status(index, response.status, &response.body),
                headers: self.headers(index, &response.headers, &response.body),
                body: response.body,
            },
            (None, None, Some(redirect)) => {
                if let Some(parameter) = redirect.to.unknown_parameter(&pattern.path) {
                    let message = format!("the path `{}` has no `{{{parameter}}}`", pattern.path);
                    self.problem(&["routes", index, "redirect", "to"], message);
                }
                Answer::Redirect {
                    to: redirect.to,
                    status: redirect.status.unwrap_or(RedirectStatus::FOUND),
                }
            }
            (None, None, None) => {
                self.problem(
                    &["routes", index],
                    "say what the route answers with: `function`, `response` or `redirect`",
                );
                return None;
            }
            _ => {
                self.problem(
                    &["routes", index],
                    "a route has one answer: keep one of `function`, `response` and `redirect`",
                );
                return None;
            }
        };
        Some(Route { pattern, answer })
    }

    fn function_is_there(
        &mut self,
        key: &[impl AsRef<str>],
        function: &FunctionName,
        functions: &BTreeMap<FunctionName, ManifestFunction>,
    ) {
        if functions.contains_key(function) {
            return;
        }
        let known: Vec<&str> = functions.keys().map(FunctionName::as_str).collect();
        let message = match nearest(function.as_str(), &known) {
            Some(near) => format!("there is no function `{function}`; did you mean `{near}`?"),
            None => format!("there is no function `{function}`: add `[functions.{function}]`"),
        };
        self.problem(key, message);
    }

    fn methods(&mut self, key: &[impl AsRef<str>], texts: Vec<String>) -> Vec<Method> {
        let mut methods = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let at = at.to_string();
            let key = key.iter().map(AsRef::as_ref).chain([at.as_str()]);
            let key: Vec<&str> = key.collect();
            let upper = text.to_ascii_uppercase();
            match text.parse::<Method>() {
                Ok(_) if upper != *text => {
                    self.problem(&key, format!("case counts in a method: write `{upper}`"));
                }
                Ok(method) if methods.contains(&method) => {
                    self.problem(&key, format!("`{method}` is listed twice"));
                }
                Ok(method) => methods.push(method),
                Err(_) => self.problem(&key, format!("`{text}` is not a method, such as `GET`")),
            }
        }
        methods
    }

    fn status(&mut self, index: &str, code: Option<u16>, body: &str) -> StatusCode {
        let key = ["routes", index, "response", "status"];
        let code = code.unwrap_or(200);
        let status = StatusCode::from_u16(code).ok();
        let Some(status) = status.filter(|_| (200..=599).contains(&code)) else {
            self.problem(&key, format!("{code} is not a status from 200 to 599"));
            return StatusCode::OK;
        };
        let bodiless = [
            StatusCode::NO_CONTENT,
            StatusCode::RESET_CONTENT,
            StatusCode::NOT_MODIFIED,
        ];
        if !body.is_empty() && bodiless.contains(&status) {
            let message = format!("a response with status {code} has no body: leave `body` out");
            self.problem(&key, message);
        }
        status
    }

    fn headers(&mut self, index: &str, fields: &BTreeMap<String, String>, body: &str) -> HeaderMap {
        // The connection's own fields: what the node writes there would contradict what the manifest says.
        let of_the_connection = [
            header::CONNECTION,
            header::CONTENT_LENGTH,
            header::TE,
            header::TRAILER,
            header::TRANSFER_ENCODING,
            header::UPGRADE,
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let key = ["routes", index, "response", "headers", name];
            let Some((name, value)) = self.field(&key, name, value) else {
                continue;
            };
            if of_the_connection.contains(&name) {
                self.problem(&key, format!("the node sets `{name}`: leave it out"));
            }
            headers.append(name, value);
        }
        if !body.is_empty() && !headers.contains_key(header::CONTENT_TYPE) {
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            headers.insert(header::CONTENT_TYPE, text);
        }
        headers
    }

    /// A header field, if it is one.
    fn field(
        &mut self,
        key: &[impl AsRef<str>],
        name: &str,
        value: &str,
    ) -> Option<(HeaderName, HeaderValue)> {
        let Ok(name) = name.parse() else {
            self.problem(key, "this is not the name of a header field");
            return None;
        };
        let value = HeaderValue::from_str(value).ok();
        let value = value.filter(|value| value.to_str().is_ok());
        if value.is_none() {
            self.problem(key, "the value of a header field is visible ASCII");
        }
        Some((name, value?))
    }
}
