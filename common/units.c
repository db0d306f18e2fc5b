#include "common/units.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#define MAX_SECONDS (UINT64_C(100) * 365 * 86400)

const char *units_format_bytes(uint64_t n_bytes, char text[UNITS_TEXT_SIZE])
{
	static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double n = (double)n_bytes;
	size_t i = 0;

	/* Not 1,023.9 rounded to 1024. */
	while (n >= 1023.5 && i + 1 < N_ELEMENTS(names)) {
		n /= 1024;
		i++;
	}
	snprintf(text, UNITS_TEXT_SIZE, i == 0 || n >= 99.95 ? "%.0f %s" : "%.1f %s", n, names[i]);
	return text;
}

const char *units_format_seconds(int64_t seconds, char text[UNITS_TEXT_SIZE])
{
	static const struct {
		int64_t seconds, smaller;
		char name, smaller_name;
	} units[] = {
		{ 86400, 3600, 'd', 'h' },
		{ 3600, 60, 'h', 'm' },
		{ 60, 1, 'm', 's' },
	};

	for (size_t i = 0; i < N_ELEMENTS(units); i++) {
		int64_t rest = seconds % units[i].seconds / units[i].smaller;

		if (seconds < units[i].seconds)
			continue;
		if (rest == 0)
			snprintf(text, UNITS_TEXT_SIZE, "%" PRId64 "%c", seconds / units[i].seconds,
			         units[i].name);
		else
			snprintf(text, UNITS_TEXT_SIZE, "%" PRId64 "%c %" PRId64 "%c",
			         seconds / units[i].seconds, units[i].name, rest, units[i].smaller_name);
		return text;
	}
	snprintf(text, UNITS_TEXT_SIZE, "%" PRId64 "s", seconds > 0 ? seconds : 0);
	return text;
}

static uint64_t seconds_of(char unit)
{
	switch (unit) {
	case 's':
		return 1;
	case 'm':
		return 60;
	case 'h':
		return 3600;
	case 'd':
		return 86400;
	case 'w':
		return 7 * 86400;
	default:
		return 0;
	}
}

bool units_parse_seconds(const char *text, uint64_t *ret)
{
	const char *p = text;
	uint64_t n = 0, unit = 1;

	for (; *p >= '0' && *p <= '9'; p++) {
		n = n * 10 + (uint64_t)(*p - '0');
		if (n > MAX_SECONDS)
			return false;
	}
	if (p == text)
		return false;
	if (*p != '\0')
		unit = seconds_of(*p++);
	if (unit == 0 || *p != '\0' || n > MAX_SECONDS / unit)
		return false;
	*ret = n * unit;
	return true;
}
