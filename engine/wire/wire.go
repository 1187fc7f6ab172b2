// Package wire holds every public object: the bodies of REST requests and responses, gateway
// frames, the table of events, opcodes, close codes and limits, with the JSON of API v10.
//
// It does not send, store or judge anything: it has no I/O, and what a struct's validator
// tags say is checked by whoever decodes it (engine/rest).
//
// Conventions. A required array is a List, so that it is never null. A nullable id is an
// id.ID, of which 0 is null. A nullable text is a *string. A time is a Time. In a request, a
// pointer is nil for absent and for null; where these differ the field is an Optional. The
// same struct serves REST, the log and the store, unless its comment says otherwise.
package wire
