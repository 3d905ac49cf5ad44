# The front door: verbs for people. Ninja builds the programs, kernel/build the kernels, image/build the boot file.
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
FUZZ_SECONDS ?= 20
export FUZZ_SECONDS

.PHONY: help run test check smoke image kernel bench faults hostile containment containment-mutations fuzz clean setup data-disk
help:
	@echo 'NullBox: every verb sets up what it needs (Debian 12, root or sudo).'
	@echo '  make run      build all, boot it in QEMU, watch the agents work; Ctrl-C powers it off'
	@echo '  make test     every test; ends with a line of totals'
	@echo '  make check    while you work: format, tidy, unit tests'
	@echo '  make smoke    boot the image and play the whole story on it, checkpoint by checkpoint'
	@echo '  make image    out/vmlinuz, out/initramfs.cpio.zst, out/root.squashfs, ...'
	@echo '  make kernel   the two kernels (KERNEL_SOURCE= for another tree or tarball)'
	@echo '  make bench    every number, beside its peer; also in out/bench.json'
	@echo '  make faults   break it: wrong input, killed services, no network, a wrong clock'
	@echo '  make hostile  guests that misbehave on purpose, against each device and in microVMs'
	@echo '  make containment            a hijacked agent tries every way out; then people'"'"'s programs must still work'
	@echo '  make containment-mutations  each control of egress off in turn: somebody must notice'
	@echo '  make fuzz     each fuzz target for FUZZ_SECONDS ($(FUZZ_SECONDS))'
	@echo '  make clean    remove build/ and out/ (kernels stay cached in ~/.cache/nullbox)'

setup:
	@tools/setup
kernel: setup
	@kernel/build guest
	@kernel/build host
image: kernel
	@image/build
data-disk: setup
	@image/data-disk
run: image data-disk
	@tools/run
smoke: image data-disk
	@tests/run boot story
test: image data-disk
	@tests/run
check: setup
	@tools/check
faults: image data-disk
	@status=0; tests/faults/run || status=1; tests/faults/services || status=1; exit $$status
hostile: image
	@tests/hostile/run
containment: image
	@tests/containment/run
containment-mutations: setup
	@tests/containment/mutate
fuzz: setup
	@tools/fuzz
bench: image data-disk
	@bench/run
clean:
	rm -rf build out
