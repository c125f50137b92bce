//! Any bytes as a request to the control socket: a question that makes sense, or a refusal of the list.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|request: &[u8]| {
    control::edge::check(request);
});
