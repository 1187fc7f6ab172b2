// Package migrations holds the schema: numbered SQL files, each an expand or a contract step that the previous binary can
// run on. It does not apply them; engine/postgres does.
package migrations

import "embed"

// FS holds the SQL files, in goose's format.
//
//go:embed *.sql
var FS embed.FS
