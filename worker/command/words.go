package command

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/mattn/go-shellwords"
)

const shell = "sh"

// arguments gives the program and its arguments.
func arguments(config Config) ([]string, error) {
	switch {
	case strings.TrimSpace(config.Command) == "":
		return nil, errors.New("command is empty")
	case strings.IndexByte(config.Command, 0) >= 0:
		return nil, errors.New("command has a NUL byte in it")
	case config.Shell:
		return []string{shell, "-c", config.Command}, nil
	default:
		return words(config.Command)
	}
}

// words splits a command line as a shell does, and expands nothing.
func words(line string) ([]string, error) {
	parser := shellwords.NewParser()
	parser.ParseEnv, parser.ParseBacktick, parser.ParseComment = false, false, false
	args, err := parser.Parse(line)
	switch {
	case err != nil:
		return nil, fmt.Errorf("command %q: a quote, a backslash or a parenthesis is left open or stands alone: "+
			"quote it, or use the shell option", line)
	case parser.Position >= 0:
		return nil, fmt.Errorf("command %q: %c is for a shell, and there is none: quote it, or use the shell option",
			line, operator(line, parser.Position))
	case len(args) == 0:
		return nil, errors.New("command is empty")
	default:
		return args, nil
	}
}

// operator gives the first operator from the character at index i on.
func operator(line string, i int) rune {
	for _, c := range line {
		if i--; i < 0 && strings.ContainsRune(";&|<>", c) {
			return c
		}
	}
	return utf8.RuneError
}

// find gives the place of a program, which stays the same if the working directory changes.
func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		if inner, ok := errors.AsType[*exec.Error](err); ok {
			err = inner.Err
		}
		return "", fmt.Errorf("command %s: %w", program, err)
	}
	return path, nil
}
