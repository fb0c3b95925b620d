# Postern. `make help` lists the targets.
#
# Every *.c of a program's folders belongs to it: adding a file needs no change here. What is generated
# goes to $(BUILD) and nowhere else.

PREFIX     ?= /usr/local
bindir     ?= $(PREFIX)/bin
libexecdir ?= $(PREFIX)/libexec
mandir     ?= $(PREFIX)/share/man
DESTDIR    ?=
CFLAGS     ?= -O2 -g
VERSION    := 0.1.0
INSTALL    ?= install
ifeq ($(origin CC),default)
CC = gcc
endif

# Debian packages that building and testing need; tests/lab/need installs those that are missing.
# The tests of one kind may name more of their own.
BUILD_PACKAGES = gcc libc6-dev musl-dev libseccomp-dev
CHECK_PACKAGES = $(BUILD_PACKAGES) libcriterion-dev libcap2-bin iproute2 python3 util-linux \
		 mtr-tiny iputils-tracepath iputils-ping traceroute tcpdump tshark nftables \
		 python3-jsonschema
DEMO_PACKAGES  = $(BUILD_PACKAGES) mtr-tiny iproute2 python3 util-linux
BENCH_PACKAGES = $(DEMO_PACKAGES) tcpdump

# --- flags -------------------------------------------------------------------------------------

MACHINE := $(shell $(CC) -dumpmachine)
WARN     = -Wall -Wextra -Wconversion -Wshadow -Werror -Wstrict-prototypes -Wmissing-prototypes
BRANCH   = $(if $(filter x86_64-% i686-%,$(MACHINE)),-fcf-protection=full) \
	   $(if $(filter aarch64-%,$(MACHINE)),-mbranch-protection=standard)
HARDEN   = -fPIE -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 $(BRANCH) \
	   -fstack-clash-protection -fno-strict-aliasing
LINK     = -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed $(LDFLAGS)
COMPILE  = -std=gnu11 -I. -I$(BUILD) -D_GNU_SOURCE -DPOSTERN_VERSION='"$(VERSION)"' $(CPPFLAGS) \
	   $(CFLAGS) $(WARN) -ffunction-sections -fdata-sections -MMD -MP

# SANITIZE=1 makes a build of its own: the front end and the tests with the address and
# undefined-behaviour sanitizers, the broker as ever (its seccomp filter knows no sanitizer's calls).
ifeq ($(SANITIZE),1)
BUILD   ?= build/sanitize
SANITIZERS = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FRONT_HARDEN = -fPIE -fstack-protector-strong -fno-strict-aliasing $(SANITIZERS)
else
BUILD   ?= build
SANITIZERS =
FRONT_HARDEN = $(HARDEN)
endif

# The broker and mtr-packet are started anew for each mtr, and most of a start is the C library's: they
# are linked with musl where that is installed, with the compiler's own C library otherwise, or when
# MUSL is set to nothing. (musl knows no _FORTIFY_SOURCE.) MUSL is the folder of musl's libc.a,
# MUSL_HEADERS that of its headers. The kernel's headers must be seen, but not the other C library's
# next to them: hence a folder of links.
CPU           = $(firstword $(subst -, ,$(MACHINE)))
MUSL         ?= $(patsubst %/rcrt1.o,%,$(wildcard /usr/lib/$(CPU)-linux-musl/rcrt1.o))
MUSL_HEADERS ?= $(subst /lib/,/include/,$(MUSL))
ifneq ($(MUSL),)
KERNEL         = $(BUILD)/gen/kernel
KERNEL_ASM    := $(firstword $(wildcard /usr/include/$(CPU)-linux-gnu/asm /usr/include/asm))
COMPILER_S    := $(shell $(CC) -print-file-name=include)
LIBGCC        := $(shell $(CC) -print-libgcc-file-name)
STATIC_HEADERS = -nostdinc -isystem $(MUSL_HEADERS) -isystem $(COMPILER_S) -idirafter $(KERNEL)
STATIC_NEEDS   = $(KERNEL)/linux
STATIC_START   = -nostdlib $(MUSL)/rcrt1.o $(MUSL)/crti.o
STATIC_END     = -Wl,--start-group $(MUSL)/libc.a $(LIBGCC) -Wl,--end-group $(MUSL)/crtn.o
endif

# --- what there is -----------------------------------------------------------------------------

OBJ       = $(BUILD)/obj#   the front end's objects, the tests' and the tools'
STATIC    = $(BUILD)/static#   the broker's and mtr-packet's: never sanitized, without a dynamic loader

sources   = $(wildcard $(1)/*.c $(1)/*/*.c)
objects   = $(patsubst %.c,$(OBJ)/%.o,$(1))
programs  = $(patsubst %.c,$(BUILD)/%,$(1))

COMMON_C   := $(call sources,common)
POLICY_C   := $(wildcard policy/*.c)
BROKER_C   := $(filter-out broker/main.c,$(call sources,broker))
FRONTEND_C := $(filter-out frontend/main.c frontend/mtr_packet.c,$(call sources,frontend))
# What only the other personalities need stays out of an mtr-packet that is a program of its own.
PACKET_C   := $(filter-out frontend/doctor.c frontend/names.c frontend/trace%,$(FRONTEND_C)) \
	      frontend/mtr_packet.c
SUPPORT_C  := $(call sources,tests/support)
UNIT_C     := $(wildcard tests/unit/*.c)
SIMNET_C   := $(wildcard tests/lab/simnet*.c)
TOOL_C     := $(wildcard tests/hostile/*.c tests/bench/*.c tests/fuzz/*.c)

LIBRARIES  = $(OBJ)/libfrontend.a $(OBJ)/libbroker.a $(OBJ)/libpolicy.a $(OBJ)/libcommon.a
# mtr-packet is a program of its own where there is musl, and otherwise a link as the others are.
OWN        = $(if $(MUSL),$(if $(SANITIZERS),,mtr-packet))
LINKS      = $(filter-out $(OWN),mtr-packet) tracepath tracepath4 tracepath6
FILTERS    = $(patsubst policy/filter/table_%.c,$(BUILD)/gen/filter_%.h,\
		$(wildcard policy/filter/table_*.c))

PROGRAMS   = $(BUILD)/postern-broker $(BUILD)/postern $(OWN:%=$(BUILD)/%) $(LINKS:%=$(BUILD)/%)
SIMNET     = $(if $(SIMNET_C),$(BUILD)/simnet)
UNIT       = $(if $(UNIT_C),$(BUILD)/tests/unit/all)
TOOLS      = $(call programs,$(TOOL_C))

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all programs tests check demo bench fuzz install uninstall clean help packages FORCE

## all: the programs, simnet, and every test and benchmark program that needs no extra library (default)
all: programs $(SIMNET)
programs: $(PROGRAMS)
tests: programs $(SIMNET) $(UNIT) $(TOOLS)

help:
	@echo 'Targets:'
	@echo '  all        build/postern-broker, build/postern, mtr-packet, links, build/simnet (default)'
	@echo '  check      install missing Debian packages, build, run all tests; ends with a count'
	@echo '  demo       mtr and a raw session over a private network of a dozen hops'
	@echo '  bench      speed and accuracy next to mtr-packet 0.95, as a table'
	@echo '  fuzz       libFuzzer on what recognises answers, until interrupted (clang)'
	@echo '  install    to PREFIX ($(PREFIX)), below DESTDIR if set; gives the broker its capability'
	@echo '  uninstall  removes what install put there'
	@echo '  clean      removes $(BUILD)'
	@echo 'Variables: CC=gcc|clang SANITIZE=1 CFLAGS PREFIX bindir libexecdir mandir DESTDIR BUILD V=1'

# --- compiling ---------------------------------------------------------------------------------

V ?=
say = $(if $(V),,@echo '  $(1)' $(patsubst $(BUILD)/%,%,$@);)

# Flags and paths are kept in files that change only when their text does: objects depend on them,
# so that another CC or PREFIX rebuilds what it touches and nothing else.
$(BUILD)/gen/flags: TEXT = $(CC) $(COMPILE) $(HARDEN) $(FRONT_HARDEN) $(LINK) $(STATIC_HEADERS)
$(BUILD)/gen/paths: TEXT = $(libexecdir)
$(BUILD)/gen/flags $(BUILD)/gen/paths: FORCE | $(BUILD)/gen/
	@$(file >$@.new,$(TEXT))cmp -s $@.new $@ && rm $@.new || mv $@.new $@

%/:
	@mkdir -p $@

PATHS = -DPOSTERN_BROKER_PATH='"$(libexecdir)/postern/postern-broker"'
FRONTEND_OBJECTS = $(call objects,$(FRONTEND_C) frontend/main.c) $(PACKET_C:%.c=$(STATIC)/%.o)
$(FRONTEND_OBJECTS): EXTRA = $(PATHS)
$(FRONTEND_OBJECTS): $(BUILD)/gen/paths

$(OBJ)/%.o: %.c $(BUILD)/gen/flags | $(FILTERS)
	$(call say,CC)mkdir -p $(@D) && $(CC) $(COMPILE) $(FRONT_HARDEN) $(EXTRA) -c -o $@ $<

$(STATIC)/%.o: %.c $(BUILD)/gen/flags | $(FILTERS) $(STATIC_NEEDS)
	$(call say,CC)mkdir -p $(@D) && $(CC) $(STATIC_HEADERS) $(COMPILE) $(HARDEN) $(EXTRA) -c -o $@ $<

$(KERNEL)/linux:
	@mkdir -p $(KERNEL) && ln -sfn $(KERNEL_ASM) $(KERNEL)/asm && \
		ln -sfn /usr/include/asm-generic $(KERNEL)/asm-generic && ln -sfn /usr/include/linux $@

archive = $(call say,AR)mkdir -p $(@D) && rm -f $@ && $(AR) rcs $@ $(filter %.o,$^)
$(OBJ)/libcommon.a: $(call objects,$(COMMON_C))
	$(archive)
$(OBJ)/libpolicy.a: $(call objects,$(POLICY_C))
	$(archive)
$(OBJ)/libbroker.a: $(call objects,$(BROKER_C))
	$(archive)
$(OBJ)/libfrontend.a: $(call objects,$(FRONTEND_C))
	$(archive)
$(OBJ)/libsupport.a: $(call objects,$(SUPPORT_C))
	$(archive)
$(OBJ)/libsimnet.a: $(call objects,$(filter-out %_main.c,$(SIMNET_C)))
	$(archive)
$(STATIC)/libpolicy.a: $(POLICY_C:%.c=$(STATIC)/%.o) $(COMMON_C:%.c=$(STATIC)/%.o)
	$(archive)

# The seccomp filters are compiled here, so that nothing privileged links libseccomp. mkfilter runs while
# building and writes filters for the machine it runs on: a cross build has no place for it yet.
MKFILTER = $(BUILD)/gen/mkfilter
$(MKFILTER): $(patsubst %.c,$(OBJ)/%.o,$(wildcard policy/filter/*.c))
	$(call say,LD)$(CC) $(FRONT_HARDEN) -pie $(LINK) -o $@ $^ -lseccomp
$(patsubst %.c,$(OBJ)/%.o,$(wildcard policy/filter/*.c)): $(OBJ)/%.o: %.c $(BUILD)/gen/flags
	$(call say,CC)mkdir -p $(@D) && $(CC) $(COMPILE) $(FRONT_HARDEN) -c -o $@ $<
$(BUILD)/gen/filter_%.h: $(MKFILTER)
	$(call say,GEN)$(MKFILTER) $* > $@

# --- linking -----------------------------------------------------------------------------------

# static-pie: without a dynamic loader no LD_* variable, library path or preload file can reach the
# broker, and it starts faster. Sections are sorted for broker/large_table.h.
link_static = $(call say,LD)$(CC) $(HARDEN) -static-pie $(LINK) -Wl,--gc-sections,--sort-section=name \
	      -o $@ $(STATIC_START) $(filter %.o %.a,$^) $(STATIC_END)

$(BUILD)/postern-broker: $(STATIC)/broker/main.o $(BROKER_C:%.c=$(STATIC)/%.o) $(STATIC)/libpolicy.a
	$(link_static)
# What stands there may be a link, as new as what it points to.
$(OWN:%=$(BUILD)/%): $(PACKET_C:%.c=$(STATIC)/%.o) $(STATIC)/libpolicy.a \
		     $(if $(shell readlink $(OWN:%=$(BUILD)/%)),FORCE)
	@rm -f $@
	$(link_static)

link = $(call say,LD)mkdir -p $(@D) && $(CC) $(FRONT_HARDEN) -pie $(LINK) -o $@ $(filter %.o %.a,$^)

$(BUILD)/postern: $(OBJ)/frontend/main.o $(LIBRARIES:$(OBJ)/libbroker.a=)
	$(link)
$(LINKS:%=$(BUILD)/%): $(BUILD)/gen/flags | $(BUILD)/postern
	@ln -sf postern $@
$(BUILD)/simnet: $(call objects,$(SIMNET_C)) $(OBJ)/libcommon.a
	$(link)
$(UNIT): $(call objects,$(UNIT_C)) $(OBJ)/libsupport.a $(LIBRARIES) $(OBJ)/libsimnet.a
	$(link) -lcriterion
$(TOOLS): $(BUILD)/%: $(OBJ)/%.o $(OBJ)/libsupport.a $(LIBRARIES)
	$(link)

# --- running -----------------------------------------------------------------------------------

# As many compilers as there are processors, unless whoever calls make says how many.
JOBS = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
# Packages first, and then a make of its own: what is to be built must not be looked for before.
check:
	@tests/lab/need $(CHECK_PACKAGES)
	@$(MAKE) --no-print-directory $(JOBS) tests
	@BUILD=$(BUILD) tests/run

demo:
	@tests/lab/need $(DEMO_PACKAGES)
	@$(MAKE) --no-print-directory $(JOBS) all
	@BUILD=$(BUILD) tests/lab/demo

# Needs clang with libFuzzer; stops at what it finds, or after so many seconds. Not part of `make check`.
FUZZ_SECONDS ?= 60
FUZZ_C = $(wildcard tests/fuzz/packets/*.c) tests/support/packet.c tests/support/probes.c \
	 $(addprefix broker/,answer.c build.c identity.c probe_table.c) $(COMMON_C)
fuzz: | $(BUILD)/gen/
	clang $(COMPILE) -fsanitize=fuzzer,address,undefined -MF $(BUILD)/gen/fuzz_answer.mk \
		-o $(BUILD)/gen/fuzz_answer $(FUZZ_C)
	$(BUILD)/gen/fuzz_answer -max_len=1400 -max_total_time=$(FUZZ_SECONDS)

bench:
	@tests/lab/need $(BENCH_PACKAGES)
	@$(MAKE) --no-print-directory $(JOBS) tests
	@BUILD=$(BUILD) tests/bench/run

# --- installing --------------------------------------------------------------------------------

BROKER_DIR = $(DESTDIR)$(libexecdir)/postern
MAN8 = $(wildcard man/*.8)
MAN1 = $(wildcard man/*.1)

# Every user must be able to run the broker, so it is 0755: what it may do depends on no group.
install: programs
	$(INSTALL) -d $(DESTDIR)$(bindir) $(BROKER_DIR) $(DESTDIR)$(mandir)/man1 $(DESTDIR)$(mandir)/man8
	$(INSTALL) -m 0755 $(BUILD)/postern $(DESTDIR)$(bindir)/postern
	$(if $(OWN),$(INSTALL) -m 0755 $(OWN:%=$(BUILD)/%) $(DESTDIR)$(bindir)/)
	for link in $(LINKS); do ln -sf postern $(DESTDIR)$(bindir)/$$link || exit 1; done
	$(if $(MAN1),$(INSTALL) -m 0644 $(MAN1) $(DESTDIR)$(mandir)/man1/)
	$(if $(MAN8),$(INSTALL) -m 0644 $(MAN8) $(DESTDIR)$(mandir)/man8/)
	$(INSTALL) -m 0755 $(BUILD)/postern-broker $(BROKER_DIR)/postern-broker
	@DESTDIR='$(DESTDIR)' policy/grant $(BROKER_DIR)/postern-broker

# Another program that somebody has put in the place of one of these stays.
uninstall:
	rm -f $(BROKER_DIR)/postern-broker
	-rmdir $(BROKER_DIR)
	for name in $(LINKS) $(OWN); do \
		file=$(DESTDIR)$(bindir)/$$name; \
		if [ "$$(readlink $$file)" = postern ] || \
			{ [ ! -L $$file ] && grep -qs 'mtr-packet (postern)' $$file; }; then \
			rm -f $$file || exit 1; fi; done
	rm -f $(DESTDIR)$(bindir)/postern
	rm -f $(MAN1:man/%=$(DESTDIR)$(mandir)/man1/%) $(MAN8:man/%=$(DESTDIR)$(mandir)/man8/%)

clean:
	rm -rf $(BUILD)

-include $(shell [ -d $(BUILD) ] && find $(BUILD) -name '*.d')
