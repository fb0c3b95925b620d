# Postern. `make help` lists the targets.
#
# Every *.c of a program's folders belongs to it: adding a file needs no change here. What is generated
# goes to build/ and nowhere else.

PREFIX     ?= /usr/local
bindir     ?= $(PREFIX)/bin
libexecdir ?= $(PREFIX)/libexec
mandir     ?= $(PREFIX)/share/man
DESTDIR    ?=
BUILD      ?= build
CC         ?= gcc
VERSION    := 0.1.0

WARN     = -Wall -Wextra -Wconversion -Wshadow -Werror -Wstrict-prototypes -Wmissing-prototypes
HARDEN   = -fPIE -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fcf-protection=full \
	   -fstack-clash-protection -fno-strict-aliasing
CFLAGS  ?= -O2 -g
ALL_CPPFLAGS = -I. -I$(BUILD)/gen -D_GNU_SOURCE -DPOSTERN_VERSION='"$(VERSION)"' $(CPPFLAGS)
ALL_CFLAGS   = -std=gnu11 $(CFLAGS) $(WARN) $(HARDEN) -MMD -MP
ALL_LDFLAGS  = -pie -Wl,-z,relro,-z,now,-z,noexecstack $(LDFLAGS)

ifeq ($(SANITIZE),1)
SAN = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
HARDEN = -fPIE -fstack-protector-strong
endif
