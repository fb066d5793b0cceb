// Package localpostgres runs a private PostgreSQL server: a child process with a data directory of its
// own, on 127.0.0.1 and a free port. It needs the programs initdb and postgres, and no rights.
//
// A server does not outlive the process that started it: it is ended within a second when that one ends,
// in whatever way. Everything that it writes is in one directory.
//
// Every client on the machine that knows the port may log in, as the superuser postgres and without a
// password. The servers are for tests and measurements.
package localpostgres
