package localbroker

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// script puts an executable file into dir.
func script(t *testing.T, dir, name string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o700))
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700))
	return path
}

func TestServerIn(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	server := script(t, filepath.Join(dir, "lib"), "rabbitmq-server")
	script(t, filepath.Join(dir, "lib"), "rabbitmq-env")
	wrapper := script(t, filepath.Join(dir, "lib"), "rabbitmq-script-wrapper")
	links := filepath.Join(dir, "links")
	require.NoError(t, os.Mkdir(links, 0o700))
	require.NoError(t, os.Symlink(server, filepath.Join(links, "rabbitmq-server")))
	debian := filepath.Join(dir, "debian")
	require.NoError(t, os.Mkdir(debian, 0o700))
	require.NoError(t, os.Symlink(wrapper, filepath.Join(debian, "rabbitmq-server")))
	fedora := filepath.Dir(script(t, filepath.Join(dir, "fedora"), "rabbitmq-server"))

	for name, test := range map[string]struct{ dir, want string }{
		"the server itself":   {filepath.Dir(server), server},
		"a link to it":        {links, server},
		"a link to a wrapper": {debian, ""},
		"a wrapper":           {fedora, ""},
		"nothing":             {dir, ""},
		"no directory":        {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := serverIn(test.dir)
			require.Equal(t, test.want != "", ok)
			if ok {
				require.Equal(t, test.want, got)
			}
		})
	}
}

func TestFindTakesTheServerThatIsNamed(t *testing.T) {
	path := script(t, t.TempDir(), "any-name")
	t.Setenv(ServerEnv, path)
	got, err := Find()
	require.NoError(t, err)
	require.Equal(t, path, got)

	t.Setenv(ServerEnv, path+"-missing")
	_, err = Find()
	require.ErrorContains(t, err, "EVDEMO_RABBITMQ_SERVER names")
	require.NotErrorIs(t, err, ErrNotInstalled)
}

func TestFindLooksOnPath(t *testing.T) {
	path := script(t, t.TempDir(), "rabbitmq-server")
	script(t, filepath.Dir(path), "rabbitmq-env")
	t.Setenv(ServerEnv, "")
	t.Setenv("PATH", filepath.Dir(path))
	got, err := Find()
	require.NoError(t, err)
	require.Equal(t, path, got)
}

func TestNotInstalledSaysWhatToDo(t *testing.T) {
	t.Parallel()
	err := notInstalled("linux", 1000, hasOnly("apt-get"))
	require.ErrorIs(t, err, ErrNotInstalled)
	require.ErrorContains(t, err, "sudo apt-get update && sudo apt-get install -y --no-install-recommends rabbitmq-server")
	require.ErrorContains(t, err, "docker compose up -d")

	for name, test := range map[string]struct {
		goos    string
		uid     int
		program string
		want    string
	}{
		"debian as root": {"linux", 0, "apt-get", "apt-get update && apt-get install -y --no-install-recommends rabbitmq-server"},
		"fedora":         {"linux", 1000, "dnf", "sudo dnf install -y rabbitmq-server"},
		"alpine as root": {"linux", 0, "apk", "apk add rabbitmq-server"},
		"arch":           {"linux", 1000, "pacman", "sudo pacman -S rabbitmq"},
		"macOS":          {"darwin", 501, "brew", "brew install rabbitmq"},
		"linuxbrew":      {"linux", 1000, "brew", "brew install rabbitmq"},
		"unknown":        {"linux", 1000, "", "see https://www.rabbitmq.com/docs/download"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, installCommand(test.goos, test.uid, hasOnly(test.program)))
		})
	}
}

func hasOnly(program string) func(string) (string, error) {
	return func(name string) (string, error) {
		if name == program {
			return "/bin/" + name, nil
		}
		return "", errors.New("not found")
	}
}
