package localpostgres

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// patterns are where packages and Homebrew put what need not be on PATH. scripts/with-broker has them, too.
func patterns() []string {
	return []string{
		"/usr/lib/postgresql/*/bin", // Debian
		"/usr/pgsql-*/bin",          // the PostgreSQL project's RPMs
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
		"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
	}
}

// find returns the directory that has initdb and postgres: the first one of path, else the one with the
// newest version among those that the patterns match.
func find(path string, patterns []string) (string, error) {
	if canRun {
		for _, dir := range append(filepath.SplitList(path), packaged(patterns)...) {
			if complete(dir) {
				return dir, nil
			}
		}
	}
	return "", fmt.Errorf("%w; install it: %s", ErrNotInstalled, installCommand(runtime.GOOS, os.Geteuid(), exec.LookPath))
}

// complete tells whether dir has both programs. It need not have clients. A directory on PATH that is named
// relative to the current one is passed over, as package exec does.
func complete(dir string) bool {
	if !filepath.IsAbs(dir) {
		return false
	}
	for _, program := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(dir, program)); err != nil {
			return false
		}
	}
	return true
}

// packaged lists the directories that the patterns match, the newest version first.
func packaged(patterns []string) []string {
	var dirs []string
	for _, pattern := range patterns {
		found, _ := filepath.Glob(pattern) // the patterns are well-formed
		dirs = append(dirs, found...)
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return cmp.Compare(version(b), version(a)) })
	return dirs
}

// version is the number at the end of the name of the directory that dir is in, or 0.
func version(dir string) float64 {
	number := regexp.MustCompile(`[0-9]+(\.[0-9]+)?$`).FindString(filepath.Dir(dir))
	v, _ := strconv.ParseFloat(number, 64)
	return v
}

// lookPath finds a program, as exec.LookPath does.
type lookPath func(program string) (string, error)

// installCommand is the command that installs PostgreSQL, as a person types it.
func installCommand(goos string, uid int, look lookPath) string {
	has := func(program string) bool {
		_, err := look(program)
		return err == nil
	}
	if goos == "linux" {
		for _, manager := range []struct{ program, command string }{
			{"apt-get", "apt-get update && apt-get install -y --no-install-recommends postgresql"},
			{"dnf", "dnf install -y postgresql-server"},
			{"zypper", "zypper install -y postgresql-server"},
			{"pacman", "pacman -S postgresql"},
			{"apk", "apk add postgresql"},
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
		return "brew install postgresql@16"
	}
	return "see https://www.postgresql.org/download/"
}
