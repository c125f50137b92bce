//! The description of the API for programs, docs/openapi.json: made from the types of [`crate::api`] and the filters of
//! [`crate::route`], so that it says what the program does.

use std::path::Path;
use std::{env, fs};

use hyper::Method;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::{Map, Value, json};

use crate::api::{
    AllBody, Done, DonePaths, DroppedLine, EndedView, EventLine, FailedSelectionBody, List, Problem,
    Reloaded, RescanBody, SelectionBody, SendBody, Sent, Status, SyncBody, TaskLine, TaskView,
};
use crate::route::{OF_ENDED, OF_EVENTS, OF_TASKS, RESULTS, Request, STATES, question};

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One method of one path.
pub(crate) struct Operation {
    method: Method,
    pub(crate) path: &'static str,
    summary: &'static str,
    query: Vec<(&'static str, Schema)>,
    body: Option<SchemaOf>,
    /// Media types of the answer.
    content: &'static [(&'static str, SchemaOf)],
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A line of the stream of events, as it is in each of its formats.
fn line(generator: &mut SchemaGenerator) -> Schema {
    let lines = [of::<EventLine>(generator), of::<TaskLine>(generator), of::<DroppedLine>(generator)];
    json_schema!({ "anyOf": lines })
}

const DONE: &[(&str, SchemaOf)] = &[("application/json", of::<Done>)];
const ENDED: &[(&str, SchemaOf)] = &[("application/json", of::<List<EndedView>>)];
const TEXT: &[(&str, SchemaOf)] = &[("text/plain", of::<String>)];

fn get(path: &'static str, summary: &'static str, content: &'static [(&'static str, SchemaOf)]) -> Operation {
    Operation { method: Method::GET, path, summary, query: vec![], body: None, content }
}

fn post(path: &'static str, summary: &'static str) -> Operation {
    Operation { method: Method::POST, path, summary, query: vec![], body: None, content: DONE }
}

impl Operation {
    fn asks(self, query: Vec<(&'static str, Schema)>) -> Operation {
        Operation { query, ..self }
    }

    fn takes<T: JsonSchema>(self) -> Operation {
        Operation { body: Some(of::<T>), ..self }
    }

    fn answers(self, content: &'static [(&'static str, SchemaOf)]) -> Operation {
        Operation { content, ..self }
    }
}

fn filters(known: &[&'static str], states: &[&str]) -> Vec<(&'static str, Schema)> {
    let schema = |name| match name {
        "state" => json_schema!({ "type": "string", "enum": states }),
        "limit" => json_schema!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        "since" => json_schema!({ "type": "string", "description": "90, 90s, 10m, 1h, 2d" }),
        "path" => json_schema!({ "type": "string", "description": "a glob over the whole path" }),
        "path_b64" => json_schema!({ "type": "string", "description": "the glob's bytes in base64" }),
        "tasks" => json_schema!({ "type": "boolean" }),
        _ => json_schema!({ "type": "string" }),
    };
    known.iter().map(|name| (*name, schema(name))).collect()
}

pub(crate) fn operations() -> Vec<Operation> {
    let ended = || filters(&OF_ENDED, &RESULTS);
    vec![
        get("/v1/status", "What the daemon does", &[("application/json", of::<Status>)]),
        get("/v1/tasks", "Tasks that have not ended", &[("application/json", of::<List<TaskView>>)])
            .asks(filters(&OF_TASKS, &STATES)),
        get("/v1/failed", "Tasks that failed for good", ENDED).asks(ended()),
        get("/v1/history", "Tasks that have ended", ENDED).asks(ended()),
        post("/v1/tasks/{id}/run", "Start a task now"),
        post("/v1/tasks/{id}/cancel", "Cancel a task"),
        post("/v1/failed/{id}/retry", "Run a failed task again"),
        post("/v1/failed/{id}/forget", "Drop a failed task"),
        post("/v1/tasks/run", "Start tasks now").takes::<SelectionBody>(),
        post("/v1/tasks/cancel", "Cancel tasks").takes::<SelectionBody>(),
        post("/v1/failed/retry", "Run failed tasks again").takes::<FailedSelectionBody>(),
        post("/v1/failed/forget", "Drop failed tasks").takes::<FailedSelectionBody>(),
        post("/v1/history/{id}/undo", "Move back what a file rule did"),
        post("/v1/schedulers/{name}/pause", "Let a scheduler start nothing"),
        post("/v1/schedulers/{name}/resume", "Let a scheduler start tasks again"),
        post("/v1/pause", "Let all schedulers start nothing").takes::<AllBody>(),
        post("/v1/resume", "Let all schedulers start tasks again").takes::<AllBody>(),
        post("/v1/send", "Send an event").takes::<SendBody>().answers(&[("application/json", of::<Sent>)]),
        post("/v1/rescan", "Tell everything below as arrivals")
            .takes::<RescanBody>()
            .answers(&[("application/json", of::<DonePaths>)]),
        post("/v1/sync", "Answer when all that happened before was read").takes::<SyncBody>(),
        post("/v1/reload", "Load the configuration again").answers(&[("application/json", of::<Reloaded>)]),
        get(
            "/v1/events",
            "A stream of events",
            &[("application/x-ndjson", line), ("text/event-stream", line)],
        )
        .asks(filters(&OF_EVENTS, &[])),
        get(
            "/metrics",
            "Metrics for Prometheus",
            &[("text/plain", of::<String>), ("application/openmetrics-text", of::<String>)],
        ),
        get("/healthz", "Whether all is well", TEXT),
    ]
}

/// The parts of a path that stand in braces.
fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

/// What the program writes and what it takes are two sides of a type: what is always there need not be given.
struct Types {
    answers: SchemaGenerator,
    bodies: SchemaGenerator,
}

impl Types {
    fn new() -> Types {
        let side = |settings: SchemaSettings| {
            settings
                .with(|settings| settings.definitions_path = "/components/schemas".into())
                .into_generator()
        };
        let settings = SchemaSettings::draft2020_12;
        Types { answers: side(settings().for_serialize()), bodies: side(settings().for_deserialize()) }
    }

    fn definitions(mut self) -> Map<String, Value> {
        let mut all = self.answers.take_definitions(true);
        all.extend(self.bodies.take_definitions(true));
        all
    }
}

fn described(operation: &Operation, types: &mut Types) -> Value {
    let in_path = parameters(operation.path)
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = operation
        .query
        .iter()
        .map(|(name, schema)| json!({ "name": name, "in": "query", "required": false, "schema": schema }));
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let content: Map<String, Value> = operation
        .content
        .iter()
        .map(|(media_type, schema)| {
            ((*media_type).to_owned(), json!({ "schema": schema(&mut types.answers) }))
        })
        .collect();
    let problem = json!({ "application/json": { "schema": of::<Problem>(&mut types.answers) } });
    let mut described = json!({
        "summary": operation.summary,
        "responses": {
            "200": { "description": "done", "content": content },
            "default": { "description": "refused", "content": problem },
        },
    });
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(body) = operation.body {
        let content = json!({ "application/json": { "schema": body(&mut types.bodies) } });
        described["requestBody"] = json!({ "required": false, "content": content });
    }
    described
}

fn document() -> Value {
    let mut types = Types::new();
    let mut paths = Map::new();
    for operation in operations() {
        let method = operation.method.as_str().to_ascii_lowercase();
        paths.insert(operation.path.to_owned(), json!({ method: described(&operation, &mut types) }));
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "pyinotifyd control socket", "version": "1" },
        "servers": [{ "url": "http://localhost" }],
        "paths": paths,
        "components": { "schemas": types.definitions() },
    })
}

#[test]
fn the_description_for_programs_is_what_the_types_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if env::var_os("UPDATE").is_some() {
        fs::write(&file, &text).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap();
    assert!(found == text, "not up to date: UPDATE=1 cargo test -p control openapi writes it");
}

#[test]
fn each_operation_that_is_described_is_routed() {
    for Operation { method, path, .. } in operations() {
        let path = path.replace("{id}", "abcd");
        let request = Request { method: &method, path: &path, query: "", accept: "", body: b"" };
        let status = question(&request).err().map(|refusal| refusal.status.as_u16());
        assert!(matches!(status, None | Some(400)), "{method} {path}: {status:?}");
    }
}
