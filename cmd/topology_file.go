package cmd

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/evdemo/evdemo/topology"
)

// loadSpec reads a topology file, "-" from standard input, or gives the built-in topology where no
// file is named.
func (a *App) loadSpec(path string) (topology.Spec, error) {
	if path == "" {
		return topology.Default(), nil
	}
	var content []byte
	var err error
	if path == "-" {
		path = "standard input"
		content, err = io.ReadAll(a.In)
	} else {
		content, err = os.ReadFile(path)
	}
	if err != nil {
		return topology.Spec{}, usageErrorf("read topology: %w", err)
	}
	spec, err := topology.Parse(path, content)
	if err != nil {
		return topology.Spec{}, usageError(err)
	}
	return spec, nil
}

// explainConflict adds to an error about declaring what a command offers about it.
func explainConflict(err error) error {
	var conflict *topology.ConflictError
	var access *topology.AccessError
	if errors.As(err, &conflict) || (errors.As(err, &access) && access.Exists) {
		return fmt.Errorf("%w\nTo use it as it is, give --no-declare", err)
	}
	return err
}
