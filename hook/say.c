/* syslog(3) is not used: it waits when the log's reader is stuck, and with it the build would. */
#include "hook/say.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"

#define TEXT_SIZE 2048

static PRINTF(2, 0) void vsay(char text[TEXT_SIZE], const char *format, va_list args)
{
	vsnprintf(text, TEXT_SIZE, format, args);
	log_init(LOG_LEVEL_INFO, false);
	log_warning("nncache: %s", text);
}

void say(const char *format, ...)
{
	char text[TEXT_SIZE];
	va_list args;

	va_start(args, format);
	vsay(text, format, args);
	va_end(args);
}

/* Facility daemon, severity error, as RFC 3164 has it; the reader adds time and host. */
static void tell_system_log(const char *text)
{
	static const struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
	CLEANUP(close_fd) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char message[TEXT_SIZE + 64];

	if (fd < 0 || connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return;
	snprintf(message, sizeof(message), "<27>nncache-hook[%d]: %s", (int)getpid(), text);
	for (char *p = message; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	if (send(fd, message, strlen(message), MSG_NOSIGNAL) < 0) {
		/* The line on stderr has to do. */
	}
}

void say_loudly(const char *format, ...)
{
	char text[TEXT_SIZE];
	va_list args;

	va_start(args, format);
	vsay(text, format, args);
	va_end(args);
	tell_system_log(text);
}
