# Postern. `make help` lists the targets; README.md says what the programs are. All that is generated
# goes to $(BUILD) and nowhere else.

PREFIX     ?= /usr/local
bindir     ?= $(PREFIX)/bin
libexecdir ?= $(PREFIX)/libexec
mandir     ?= $(PREFIX)/share/man
datadir    ?= $(PREFIX)/share
unitdir    ?= $(PREFIX)/lib/systemd/system
sysusersdir ?= $(PREFIX)/lib/sysusers.d
bashdir    ?= $(PREFIX)/share/bash-completion/completions
zshdir     ?= $(PREFIX)/share/zsh/site-functions
fishdir    ?= $(PREFIX)/share/fish/vendor_completions.d
DESTDIR    ?=
BUILD      ?= build
CFLAGS     ?= -O2 -g
# debian/changelog is the one place of the version.
VERSION    := $(shell sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
INSTALL    ?= install
ifeq ($(origin CC),default)
CC = gcc
endif
# Compiles what runs while building. Of use when CC compiles for another machine.
BUILD_CC   ?= $(CC)

# Debian packages that building and testing need.
BUILD_PACKAGES = gcc libc6-dev libseccomp-dev libcap-ng-dev
CHECK_PACKAGES = $(BUILD_PACKAGES) libcriterion-dev libcap2-bin iproute2 python3 util-linux \
		 mtr-tiny iputils-tracepath iputils-ping traceroute tcpdump tshark nftables \
		 python3-jsonschema strace $(DEB_PACKAGES) lintian apparmor mandoc \
		 bash-completion zsh fish parallel sqlite3 jq ansible-core \
		 python3-prometheus-client
DEMO_PACKAGES  = $(BUILD_PACKAGES) mtr-tiny iproute2 python3 util-linux
BENCH_PACKAGES = $(DEMO_PACKAGES) tcpdump
DEB_PACKAGES   = $(BUILD_PACKAGES) dpkg-dev debhelper dh-apparmor

# --- flags -------------------------------------------------------------------------------------

MACHINE := $(shell $(CC) -dumpmachine)
WARN     = -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes
BRANCH   = $(if $(filter x86_64-% i686-%,$(MACHINE)),-fcf-protection=full) \
	   $(if $(filter aarch64-%,$(MACHINE)),-mbranch-protection=standard)
HARDEN   = -fstack-protector-strong -fstack-clash-protection -fno-strict-aliasing \
	   -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 $(BRANCH)
HARDEN_LD = -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed
DEFINES  = -D_GNU_SOURCE -DPOSTERN_VERSION='"$(VERSION)"' \
	   -DPOSTERN_BROKER_PATH='"$(libexecdir)/postern/postern-broker"'
# WERROR=1 makes warnings errors, MARKS=1 lets every user set routing marks (postern-broker(8)).
COMPILE  = -std=gnu11 -fPIE -I. -I$(BUILD) $(DEFINES) $(if $(MARKS),-DPOSTERN_MARKS_FOR_ALL) \
	   $(WARN) $(if $(WERROR),-Werror) $(HARDEN) $(CPPFLAGS) $(CFLAGS) -MMD -MP
LINK     = $(HARDEN_LD) $(LDFLAGS)

# SANITIZE=1 builds the front end and the tests with the address and undefined-behaviour sanitizers;
# the broker's seccomp filter knows no sanitizer's calls. Use a BUILD of its own for it.
ifeq ($(SANITIZE),1)
SANITIZERS = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
	     -U_FORTIFY_SOURCE
endif

# --- what there is -----------------------------------------------------------------------------

sources   = $(wildcard $(1)/*.c $(1)/*/*.c)
objects   = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

COMMON_C   := $(call sources,common)
POLICY_C   := $(wildcard policy/*.c)
BROKER_C   := $(call sources,broker)
FRONTEND_C := $(call sources,frontend)
FILTER_C   := $(wildcard policy/filter/*.c)
SUPPORT_C  := $(call sources,tests/support)
UNIT_C     := $(call sources,tests/unit)
SIMNET_C   := $(wildcard tests/lab/simnet*.c)
TOOL_C     := $(wildcard tests/hostile/*.c tests/bench/*.c tests/fuzz/*.c)

# Of what both programs may use, what the broker does use: its list says what is privileged.
BROKER_USES = common/checksum.c common/wire.c policy/landlock.c policy/seccomp.c \
	      policy/socket_filter.c policy/validate.c
# What of it runs after lock-down, beside the last three lines of main().
BROKER_SERVES = $(wildcard $(foreach m,serve channel send recv match build fatal,\
		broker/$(m).c broker/$(m).h)) \
		$(foreach m,common/checksum common/wire policy/validate,$(m).c $(m).h) \
		common/record.h policy/descriptors.h

PROGRAMS   = $(BUILD)/postern-broker $(BUILD)/postern
LINKS      = mtr-packet tracepath tracepath4 tracepath6
FILTERS    = $(patsubst policy/filter/table_%.c,$(BUILD)/gen/filter_%.h,\
		$(wildcard policy/filter/table_*.c))
UNIT       = $(BUILD)/tests/unit/all
TOOLS      = $(patsubst %.c,$(BUILD)/%,$(TOOL_C))

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all programs tests check demo bench fuzz deps lines deb install uninstall clean help FORCE

## all: the programs and simnet (default)
all: programs $(BUILD)/simnet
programs: $(PROGRAMS) $(LINKS:%=$(BUILD)/%)
tests: all $(UNIT) $(TOOLS)

help:
	@echo 'Targets:'
	@echo '  all        build/postern-broker, build/postern, links, build/simnet (default)'
	@echo '  check      install missing Debian packages, build, run all tests; ends with a count'
	@echo '  demo       mtr and a raw session over a private network of a dozen hops'
	@echo '  bench      speed and accuracy next to mtr-packet 0.95, as a table'
	@echo '  fuzz       libFuzzer on what the broker reads of answers, for FUZZ_SECONDS=60 (clang)'
	@echo '  deps       install the Debian packages that check needs, as far as they are missing'
	@echo '  lines      count the lines of code that run with privilege'
	@echo '  deb        Debian packages, in $(BUILD)/deb'
	@echo '  install    to PREFIX ($(PREFIX)), below DESTDIR if set; gives the broker its capability'
	@echo '  uninstall  removes what install put there'
	@echo '  clean      removes $(BUILD)'
	@echo 'Variables: CC=gcc|clang CFLAGS LDFLAGS PREFIX bindir libexecdir mandir unitdir DESTDIR BUILD V=1'
	@echo '           WERROR=1 SANITIZE=1 MARKS=1; for install GROUP=NAME SETUID=1'

# --- compiling ---------------------------------------------------------------------------------

V ?=
say = $(if $(V),,@echo '  $(1)' $(patsubst $(BUILD)/%,%,$@);)

# The flags are kept in a file that changes only when they do: objects depend on it.
$(BUILD)/gen/flags: TEXT = $(CC) $(COMPILE) $(SANITIZERS) $(LINK)
$(BUILD)/gen/flags: FORCE | $(BUILD)/gen/
	@$(file >$@.new,$(TEXT))cmp -s $@.new $@ && rm $@.new || mv $@.new $@
$(BUILD)/gen/:
	@mkdir -p $@

$(BUILD)/obj/%.o: %.c $(BUILD)/gen/flags | $(FILTERS)
	$(call say,CC)mkdir -p $(@D) && $(CC) $(COMPILE) $(SANITIZERS) -c -o $@ $<
$(BUILD)/broker/%.o: %.c $(BUILD)/gen/flags | $(FILTERS)
	$(call say,CC)mkdir -p $(@D) && $(CC) $(COMPILE) -c -o $@ $<

# Seccomp filters are compiled while building, for the machine that is built for, so that nothing
# privileged links libseccomp.
MKFILTER = $(BUILD)/gen/mkfilter
$(MKFILTER): $(FILTER_C) policy/filter/table.h policy/descriptors.h $(BUILD)/gen/flags
	$(call say,LD)$(BUILD_CC) -std=gnu11 -I. -D_GNU_SOURCE $(WARN) $(if $(WERROR),-Werror) \
		-o $@ $(FILTER_C) -lseccomp
$(BUILD)/gen/filter_%.h: $(MKFILTER)
	$(call say,GEN)$(MKFILTER) $* $(firstword $(subst -, ,$(MACHINE))) > $@

# --- linking -----------------------------------------------------------------------------------

# Static: no LD_* variable, library path or preload file can reach the broker.
BROKER_OBJECTS = $(patsubst %.c,$(BUILD)/broker/%.o,$(BROKER_C) $(BROKER_USES))
$(BUILD)/postern-broker: $(BROKER_OBJECTS)
	$(call say,LD)$(CC) -static-pie $(LINK) -o $@ $^ -lcap-ng

link = $(call say,LD)mkdir -p $(@D) && $(CC) -pie $(LINK) $(SANITIZERS) -o $@ $(filter %.o,$^)

$(BUILD)/postern: $(call objects,$(FRONTEND_C) $(COMMON_C) $(POLICY_C))
	$(link) -lcap-ng
$(LINKS:%=$(BUILD)/%): | $(BUILD)/postern
	@ln -sf postern $@
$(BUILD)/simnet: $(call objects,$(SIMNET_C) $(COMMON_C))
	$(link)
# Unit tests see everything but the two main functions.
TESTED = $(call objects,$(filter-out broker/main.c frontend/main.c,$(BROKER_C) $(FRONTEND_C)) \
	   $(COMMON_C) $(POLICY_C) $(SUPPORT_C))
$(UNIT): $(call objects,$(UNIT_C) $(filter-out %_main.c,$(SIMNET_C))) $(TESTED)
	$(link) -lcriterion -lcap-ng
$(TOOLS): $(BUILD)/%: $(BUILD)/obj/%.o $(TESTED)
	$(link) -lcap-ng

# --- running -----------------------------------------------------------------------------------

# As many compilers as there are processors, unless make was told how many.
JOBS = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
SUBMAKE = @$(MAKE) --no-print-directory $(JOBS) WERROR=1

deps:
	@tests/lab/need $(CHECK_PACKAGES)

check: deps
	$(SUBMAKE) tests
	@BUILD=$(BUILD) tests/run

demo:
	@tests/lab/need $(DEMO_PACKAGES)
	$(SUBMAKE) all
	@BUILD=$(BUILD) tests/lab/demo

bench:
	@tests/lab/need $(BENCH_PACKAGES)
	$(SUBMAKE) tests
	@BUILD=$(BUILD) tests/bench/run

# Needs clang with libFuzzer. Ends at what it finds, or after so many seconds.
FUZZ_SECONDS ?= 60
FUZZ_C = tests/fuzz/packets/fuzz_answer.c broker/match.c broker/build.c common/wire.c \
	 common/checksum.c tests/support/probes.c
fuzz: | $(BUILD)/gen/
	clang -std=gnu11 -I. $(DEFINES) $(WARN) -O1 -g -fsanitize=fuzzer,address,undefined \
		-o $(BUILD)/gen/fuzz_answer $(FUZZ_C)
	$(BUILD)/gen/fuzz_answer -max_len=1400 -max_total_time=$(FUZZ_SECONDS)

# Lines of code, without blank lines and comments, of every source and header of ours in the broker.
lines: $(BUILD)/postern-broker
	@tests/lines $(if $(V),-v) $(BROKER_OBJECTS:.o=.d) -- $(BROKER_SERVES)

# --- installing --------------------------------------------------------------------------------

BROKER_DIR = $(DESTDIR)$(libexecdir)/postern
PAGES = $(wildcard man/*.[0-9])
# Installed, not enabled: postern-broker(8).
UNITS = broker/postern-broker.socket broker/postern-broker@.service

install: programs
	$(INSTALL) -d "$(DESTDIR)$(bindir)" "$(DESTDIR)$(bashdir)" "$(DESTDIR)$(zshdir)" "$(DESTDIR)$(fishdir)"
	$(INSTALL) -m 0755 $(BUILD)/postern "$(DESTDIR)$(bindir)/postern"
	for link in $(LINKS); do ln -sf postern "$(DESTDIR)$(bindir)/$$link" || exit 1; done
	for page in $(PAGES); do \
		$(INSTALL) -D -m 0644 $$page "$(DESTDIR)$(mandir)/man$${page##*.}/$${page#man/}" || exit 1; done
	$(INSTALL) -m 0644 frontend/completion/postern.bash "$(DESTDIR)$(bashdir)/postern"
	$(INSTALL) -m 0644 frontend/completion/_postern "$(DESTDIR)$(zshdir)/"
	$(INSTALL) -m 0644 frontend/completion/postern.fish "$(DESTDIR)$(fishdir)/"
	$(INSTALL) -D -m 0644 frontend/tracepath/tracepath.schema.json \
		"$(DESTDIR)$(datadir)/postern/tracepath.schema.json"
	for link in $(LINKS); do ln -sf postern "$(DESTDIR)$(bashdir)/$$link" && \
		ln -sf postern.fish "$(DESTDIR)$(fishdir)/$$link.fish" || exit 1; done
	$(INSTALL) -d "$(DESTDIR)$(unitdir)" "$(DESTDIR)$(sysusersdir)"
	$(INSTALL) -m 0644 $(UNITS) "$(DESTDIR)$(unitdir)/"
	sed -i 's,^ExecStart=.*,ExecStart="$(libexecdir)/postern/postern-broker",' \
		"$(DESTDIR)$(unitdir)/postern-broker@.service"
	$(INSTALL) -m 0644 broker/postern.sysusers "$(DESTDIR)$(sysusersdir)/postern.conf"
	@DESTDIR='$(DESTDIR)' GROUP='$(GROUP)' SETUID='$(SETUID)' \
		broker/install $(BUILD)/postern-broker "$(BROKER_DIR)/postern-broker"

# Refuses while a diverted /usr/bin/mtr-packet, as postern(1) makes it, would be left without a program.
# A link of ours that another package has replaced stays.
uninstall:
	@[ -n "$(DESTDIR)" ] || [ "$(bindir)" = /usr/bin ] || \
		! { grep -qsF "$(bindir)/mtr-packet" /usr/bin/mtr-packet || \
		    [ /usr/bin/mtr-packet -ef "$(bindir)/postern" ]; } || \
		{ echo "postern: /usr/bin/mtr-packet leads to $(bindir)/mtr-packet, and mtr would have none" \
			"without it. Undo that first: postern(1), NOTES" >&2; exit 1; }
	for link in $(LINKS); do for file in "$(DESTDIR)$(bindir)/$$link" \
			"$(DESTDIR)$(bashdir)/$$link" "$(DESTDIR)$(fishdir)/$$link.fish"; do \
		case $$(readlink "$$file") in postern | postern.fish) rm -f "$$file" || exit 1 ;; esac; \
		done; done
	rm -f "$(DESTDIR)$(bindir)/postern" "$(BROKER_DIR)/postern-broker" \
		"$(DESTDIR)$(bashdir)/postern" "$(DESTDIR)$(zshdir)/_postern" "$(DESTDIR)$(fishdir)/postern.fish" \
		"$(DESTDIR)$(sysusersdir)/postern.conf" "$(DESTDIR)$(datadir)/postern/tracepath.schema.json"
	for unit in $(notdir $(UNITS)); do rm -f "$(DESTDIR)$(unitdir)/$$unit"; done
	for page in $(PAGES); do rm -f "$(DESTDIR)$(mandir)/man$${page##*.}/$${page#man/}"; done
	@for folder in "$(BROKER_DIR)" "$(DESTDIR)$(datadir)/postern" "$(DESTDIR)$(bashdir)" "$(DESTDIR)$(zshdir)" "$(DESTDIR)$(fishdir)" \
			"$(DESTDIR)$(unitdir)"; do rmdir "$$folder" "$${folder%/*}"; done 2>/dev/null; \
	rmdir "$(DESTDIR)$(sysusersdir)" "$(DESTDIR)$(mandir)"/man[0-9] 2>/dev/null; \
	case "$(PREFIX)" in /usr | /usr/local) ;; *) cd "$(DESTDIR)$(PREFIX)" && \
		rmdir share/man share lib bin "$(DESTDIR)$(PREFIX)" 2>/dev/null ;; esac; :

# The packages are built from a copy of the tree, into $(BUILD)/deb.
deb:
	@tests/lab/need $(DEB_PACKAGES)
	rm -rf $(BUILD)/deb && mkdir -p $(BUILD)/deb/source
	tar -c --exclude=./.git --exclude=./build --exclude='./$(BUILD)' --exclude=__pycache__ . | \
		tar -x -C $(BUILD)/deb/source
	cd $(BUILD)/deb/source && env -u MAKEFLAGS -u MFLAGS -u BUILD dpkg-buildpackage -b -us -uc
	rm -rf $(BUILD)/deb/source

clean:
	rm -rf $(BUILD)

-include $(shell [ -d $(BUILD) ] && find $(BUILD) -path $(BUILD)/deb -prune -o -name '*.d' -print)
