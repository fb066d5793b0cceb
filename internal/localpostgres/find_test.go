package localpostgres

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// programs puts executable files into dir.
func programs(t *testing.T, dir string, names ...string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o700))
	for _, name := range names {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o700))
	}
	return dir
}

func TestFind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	clients := programs(t, filepath.Join(dir, "bin"), "psql", "initdb")
	onPath := programs(t, filepath.Join(dir, "mine"), "initdb", "postgres")
	debian := filepath.Join(dir, "debian", "*", "bin")
	for _, version := range []string{"9.6", "15", "9"} {
		programs(t, filepath.Join(dir, "debian", version, "bin"), "initdb", "postgres")
	}
	programs(t, filepath.Join(dir, "debian", "17", "bin"), "psql")
	brew := filepath.Join(dir, "opt", "postgresql*", "bin")
	programs(t, filepath.Join(dir, "opt", "postgresql", "bin"), "initdb", "postgres")
	newest := programs(t, filepath.Join(dir, "opt", "postgresql@16", "bin"), "initdb", "postgres")

	for name, test := range map[string]struct {
		path     []string
		patterns []string
		want     string
	}{
		"on PATH":                  {[]string{"", ".", clients, onPath}, []string{debian}, onPath},
		"the newest":               {[]string{clients}, []string{debian}, filepath.Join(dir, "debian", "15", "bin")},
		"the newest of all places": {nil, []string{debian, brew}, newest},
		"none on PATH":             {[]string{"", ".", clients}, nil, ""},
		"none at all":              {nil, []string{filepath.Join(dir, "nowhere", "*")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := ""
			for _, dir := range test.path {
				path += dir + string(filepath.ListSeparator)
			}
			got, err := find(path, test.patterns)
			require.Equal(t, test.want, got)
			if test.want == "" {
				require.ErrorIs(t, err, ErrNotInstalled)
				require.ErrorContains(t, err, "PostgreSQL is not installed; install it: ")
			}
		})
	}
}

func TestInstallCommand(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		goos    string
		uid     int
		program string
		want    string
	}{
		"debian":         {"linux", 1000, "apt-get", "sudo apt-get update && sudo apt-get install -y --no-install-recommends postgresql"},
		"debian as root": {"linux", 0, "apt-get", "apt-get update && apt-get install -y --no-install-recommends postgresql"},
		"fedora":         {"linux", 1000, "dnf", "sudo dnf install -y postgresql-server"},
		"macOS":          {"darwin", 501, "brew", "brew install postgresql@16"},
		"linuxbrew":      {"linux", 1000, "brew", "brew install postgresql@16"},
		"unknown":        {"linux", 1000, "", "see https://www.postgresql.org/download/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			has := func(program string) (string, error) {
				if program == test.program {
					return "/bin/" + program, nil
				}
				return "", errors.New("not found")
			}
			require.Equal(t, test.want, installCommand(test.goos, test.uid, has))
		})
	}
}

// TestScriptLooksWhereThisPackageDoes keeps scripts/with-broker from installing what is there.
func TestScriptLooksWhereThisPackageDoes(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("../../scripts/with-broker")
	require.NoError(t, err)
	for _, pattern := range patterns() {
		require.Contains(t, string(script), pattern)
	}
}
