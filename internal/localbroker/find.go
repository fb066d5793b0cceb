package localbroker

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// ServerEnv names the environment variable that holds the path of the rabbitmq-server to use.
const ServerEnv = "EVDEMO_RABBITMQ_SERVER"

// Find returns the path of the rabbitmq-server to run: the one that EVDEMO_RABBITMQ_SERVER
// names, else the first one on PATH or in a directory where packages and Homebrew put it.
//
// What Debian and Fedora have in /usr/sbin is passed over: it is a wrapper that changes to the
// user rabbitmq, whose node would be the system's. The script behind it runs as anybody.
//
// The error wraps [ErrNotInstalled] where there is none.
func Find() (string, error) {
	if path := os.Getenv(ServerEnv); path != "" {
		return named(path)
	}
	if canRun {
		for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), serverDirs()...) {
			if path, ok := serverIn(dir); ok {
				return path, nil
			}
		}
	}
	return "", notInstalled(runtime.GOOS, os.Geteuid(), exec.LookPath)
}

// named checks a path that somebody gave.
func named(path string) (string, error) {
	path, err := exec.LookPath(path)
	if err != nil {
		return "", fmt.Errorf("the rabbitmq-server that %s names: %w", ServerEnv, err)
	}
	return filepath.Abs(path)
}

// serverDirs are the directories that need not be on PATH: those of the Debian and RPM packages,
// of Arch and Alpine, of a local installation, and of Homebrew on Apple silicon, on Intel and on
// Linux.
func serverDirs() []string {
	dirs := []string{"/usr/lib/rabbitmq/bin"}
	versions, _ := filepath.Glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin") // the pattern is well-formed
	dirs = append(dirs, versions...)
	return append(dirs,
		"/usr/sbin",
		"/usr/local/sbin",
		"/opt/homebrew/opt/rabbitmq/sbin",
		"/usr/local/opt/rabbitmq/sbin",
		"/home/linuxbrew/.linuxbrew/opt/rabbitmq/sbin",
	)
}

// serverIn looks for the server's own script in dir: it reads the file rabbitmq-env that stands
// beside it, which wrappers do not have. A link is returned as it is where that works, because
// its target moves with every upgrade.
func serverIn(dir string) (string, bool) {
	if dir == "" {
		return "", false
	}
	link, err := exec.LookPath(filepath.Join(dir, "rabbitmq-server"))
	if err != nil {
		return "", false
	}
	target, err := filepath.EvalSymlinks(link)
	if err != nil || filepath.Base(target) != "rabbitmq-server" {
		return "", false
	}
	for _, path := range []string{link, target} {
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), "rabbitmq-env")); err == nil {
			path, err = filepath.Abs(path)
			return path, err == nil
		}
	}
	return "", false
}

// lookPath finds a program, as exec.LookPath does.
type lookPath func(program string) (string, error)

func notInstalled(goos string, uid int, look lookPath) error {
	return fmt.Errorf("%w\n  install it:    %s\n  or in Docker:  docker compose up -d   (in a clone of the repository)",
		ErrNotInstalled, installCommand(goos, uid, look))
}

// installCommand is the command that installs rabbitmq-server, as a person types it.
func installCommand(goos string, uid int, look lookPath) string {
	has := func(program string) bool {
		_, err := look(program)
		return err == nil
	}
	if goos == "linux" {
		for _, manager := range []struct{ program, command string }{
			{"apt-get", "apt-get update && apt-get install -y --no-install-recommends rabbitmq-server"},
			{"dnf", "dnf install -y rabbitmq-server"},
			{"zypper", "zypper install -y rabbitmq-server"},
			{"pacman", "pacman -S rabbitmq"},
			{"apk", "apk add rabbitmq-server"},
		} {
			switch {
			case !has(manager.program):
			case uid == 0:
				return manager.command
			default:
				return "sudo " + strings.ReplaceAll(manager.command, "&& ", "&& sudo ")
			}
		}
	}
	if goos == "darwin" || has("brew") {
		return "brew install rabbitmq"
	}
	return "see https://www.rabbitmq.com/docs/download"
}
