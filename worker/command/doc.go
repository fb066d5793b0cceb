// Package command runs a command for every event: a worker's handler that people bring in whatever
// language they like.
//
// The event's data is on the command's standard input and its attributes are in the environment:
//
//	EVDEMO_ID, EVDEMO_SOURCE, EVDEMO_TYPE, EVDEMO_SUBJECT, EVDEMO_TIME (RFC 3339),
//	EVDEMO_DATACONTENTTYPE, EVDEMO_DATASCHEMA   the event's attributes
//	EVDEMO_ATTEMPT                              1 for an event that has not failed before
//	EVDEMO_REDELIVERED                          true or false
//	EVDEMO_QUEUE                                the queue that it was consumed from
//	EVDEMO_REPLAYED                             when it was replayed (RFC 3339); unset for one that was not
//	EVDEMO_EXT_<NAME>                           its extensions
//	EVDEMO_HEADER_<NAME>                        the message's own headers
//	TRACEPARENT, TRACESTATE                     the span of this attempt; without one, that which
//	                                            published the event
//
// NAME is in upper case, and every character of it but A to Z and 0 to 9 is an underscore. A header
// that is a string is given as it is, any other as JSON in one line. What an event does not have is
// not set, whatever the environment of this process says.
//
// A value with a NUL byte, or of more than 64 KiB, is left out, and so is what comes once there are
// 256 KiB of them, in the order above: the operating system would refuse to start the command.
// Values are otherwise the bytes that the publisher chose. A script has to quote them.
//
// The exit code decides, and nothing else does: 0 is done; 65 (EX_DATAERR) means that trying again
// does not help; any other, and death by a signal, is a failure. A command that does not read its
// input, or closes its output, does not fail by that.
//
// A command has a process group of its own. When its time is over the whole group gets SIGTERM, and
// after a grace period SIGKILL. Processes that leave the group, as daemons do, are not reached.
// Where there are no process groups, as on Windows, the command alone is killed, at once. What a
// command leaves running when it ends by itself is left running.
//
// Delivery is at least once: a command must be able to meet an event a second time. If this process
// is killed, its commands run on while their events are delivered again.
package command
