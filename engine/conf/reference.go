package conf

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Reference prints one line for every setting of target: its flag, its variable, its default and its meaning.
func Reference(w io.Writer, target any, p Program) error {
	l, err := newLoader(target, p)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FLAG\tENVIRONMENT\tDEFAULT\tMEANING") // tabwriter reports a failed write in Flush
	for _, s := range l.settings {
		flag, def, help := "--"+s.flag.Name, s.flag.Default, s.flag.Help
		envs := append([]string(nil), s.envs...)
		if s.secret {
			flag = "-"
			for _, env := range s.envs {
				envs = append(envs, env+"_FILE")
			}
			if s.flag.HasDefault {
				def = masked
			}
		} else if s.flag.Hidden {
			continue
		}
		if def == "" {
			def = "-"
		}
		if s.flag.Enum != "" {
			help += " One of: " + strings.Join(s.flag.EnumSlice(), ", ") + "."
		}
		if s.flag.Required {
			help += " Required."
		}
		if s.owner != "" {
			help += " Only with: " + s.owner + "."
		}
		env := strings.Join(envs, ", ")
		if env == "" {
			env = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", flag, env, def, strings.TrimSpace(help))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print settings: %w", err)
	}
	return nil
}
