package openapi

// Listener sees what the servers of a process say. Any goroutine may call it at any time; it must not keep a body.
type Listener interface {
	// Answered is told of an answer with its route, which is nil where there was none.
	Answered(route *Route, status int, contentType string, body []byte)
	// Dispatched is told of a dispatch of the gateway.
	Dispatched(name string, body []byte)
}

// Listening is nil but in tests: harness.Main sets it before any server runs, and that is the only place where it may be set. It is the exception to
// the rule against package state: what all tests of a process say, wherever they come from, is held against the description.
var Listening Listener
