package wire

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-playground/validator/v10"
)

// Commands reads what clients send to the gateway. Safe for concurrent use.
type Commands struct{ validate *validator.Validate }

// NewCommands makes a Commands, which is worth sharing.
func NewCommands() *Commands { return &Commands{validate: NewValidator()} }

// Read decodes the d of a frame into a struct of this package and checks it by its tags. What is wrong is told in words, for a log; a
// *json.UnmarshalTypeError in it says which field has the wrong type.
func (c *Commands) Read(d []byte, into any) error {
	if len(d) == 0 || string(d) == "null" {
		return errors.New("a command without content")
	}
	if err := json.Unmarshal(d, into); err != nil {
		return fmt.Errorf("decode a command: %w", err)
	}
	if err := c.validate.Struct(into); err != nil {
		return fmt.Errorf("check a command: %w", err)
	}
	return nil
}
