#include "ci/cli/command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <exception>
#include <new>

#include "ci/cli/one_process.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/session.hpp"
#include "ci/cli/session/settings.hpp"
#include "ci/cli/session/signals.hpp"
#include "ci/cli/session/similar_path.hpp"
#include "ci/cli/session/world.hpp"
#include "core/base/text.hpp"
#include "core/verdict/verdicts_json.hpp"
#include "reports/error_text.hpp"

namespace bv::cli {
namespace {

constexpr std::array kCommands = {
    Command{{"check", "", false},
            "check --model DIR",
            "names, shapes, proofs and placement from headers (the default)",
            true,
            run_check,
            "bridge-verify check --model fixture:qwen3_5_vl_moe\n"
            "bridge-verify check --model DIR --rules my_bridge.rules.json --tp 1,2,4\n"
            "bridge-verify check --model DIR --level full --json",
            true},
    Command{{"roundtrip", "", false},
            "roundtrip --model DIR",
            "check, and every byte moved and compared",
            true,
            run_check,
            "bridge-verify roundtrip --model DIR --tp 2 --pp 2 --ep 8",
            true},
    Command{{"convert", "import export", false},
            "convert --to megatron|torch_dist|hf --model DIR --out DIR",
            "writes the other form and reads it back",
            true,
            run_convert,
            "bridge-verify convert --to megatron --model DIR --out SHARDS --tp 2 --pp 1\n"
            "bridge-verify convert --to hf --model SHARDS --out DIR2",
            true},
    Command{{"trace", "", true},
            "trace NAME [INDEX] --model DIR",
            "where a tensor or one element lies on the other side",
            false,
            run_trace,
            "bridge-verify trace model.layers.0.self_attn.q_proj.weight 17 --model fixture:llama "
            "--tp 2"},
    Command{{"layout", "", false},
            "layout [--model DIR]",
            "ranks, stages and shard files of a parallel layout",
            false,
            run_layout,
            "bridge-verify layout --tp 2 --pp 2\n"
            "bridge-verify layout --model fixture:qwen3_moe --tp 2 --ep 2 --rank 3"},
    Command{{"inspect", "", false},
            "inspect --model PATH",
            "tensors of a checkpoint; writes headers dumps",
            false,
            run_inspect,
            "bridge-verify inspect --model fixture:llama --match '*q_proj*'\n"
            "bridge-verify inspect --model DIR --dump-headers m.headers.json.gz -q"},
    Command{{"diff", "", true},
            "diff HF_DIR OTHER_DIR",
            "two checkpoints: which tensors differ, and where their rows went",
            true,
            run_diff,
            "bridge-verify diff HF_DIR MEGATRON_DIR\n"
            "bridge-verify diff HF_DIR OTHER_HF_DIR",
            true},
    Command{{"report", "", true,
             "html junit sarif ctrf markdown github gitlab csv card text plain json jsonl "
             "merge diff"},
            "report FORMAT FILE... | report merge FILE... | report diff BEFORE AFTER",
            "renders stored verdicts again, joins the runs of several jobs, compares two",
            false,
            run_report,
            "bridge-verify report html DIR/verdicts.json --out report.html\n"
            "bridge-verify report merge DIR/a.json DIR/b.json --out verdicts.json\n"
            "bridge-verify report diff DIR/old.json DIR/new.json --fail-on-new"},
    Command{
        {"lora", "", true, "check convert merge slice unpack"},
        "lora check|convert|merge|slice|unpack --adapter DIR",
        "adapters: names and slices, to Megatron's ranks and back, merged, cut for serving",
        true,
        run_lora,
        "bridge-verify lora check --model DIR --adapter ADAPTER_DIR\n"
        "bridge-verify lora convert --to megatron --model DIR --adapter ADAPTER_DIR --out SHARDS "
        "--tp 2"},
    Command{{"models", "", true, "list show"},
            "models list | models show NAME",
            "families known by file",
            false,
            run_models,
            "bridge-verify models show qwen3"},
    Command{{"rules", "", true, "list show lint"},
            "rules list | rules show [NAME] | rules lint FILE",
            "kinds of the layout notation, rules of a family, faults of a rules file",
            false,
            run_rules,
            "bridge-verify rules show qkv\n"
            "bridge-verify rules lint my_bridge.rules.json --model DIR"},
    Command{{"survey", "", true},
            "survey DIR|FILE...",
            "many rules files, each on the checkpoint beside it: one row each",
            false,
            run_survey,
            "bridge-verify survey DIR --out matrix\n"
            "bridge-verify survey DIR --baseline survey.expected.json"},
    Command{{"fixture", "", true, "list make"},
            "fixture list | fixture make NAME --out DIR",
            "tiny checkpoints of every family and storage form",
            false,
            run_fixture,
            "bridge-verify fixture make llama --out tiny --seed 7"},
    Command{{"fuzz", "", false},
            "fuzz --seconds N --seed S | fuzz --replay FILE",
            "random geometries and layouts, judged by every claim",
            true,
            run_fuzz,
            "bridge-verify fuzz --seconds 60 --seed 7 --out failures"},
    Command{{"mutate", "", true},
            "mutate [FAMILY|SAMPLE ...] --operators DROP,SWAP --survivors FILE",
            "plants every fault into every family and shows which claim sees it",
            true,
            run_mutate,
            "bridge-verify mutate llama --operators SWAP"},
    Command{{"explain", "", true},
            "explain [CODE|CLAIM|results]",
            "what a code, a claim or a result means; without an argument: the list",
            false,
            run_explain,
            "bridge-verify explain BV2006\nbridge-verify explain placement"},
    Command{{"config", "", true, "show"},
            "config show",
            "every setting, its value and where it was set",
            false,
            run_config},
    Command{{"certify", "", true},
            "certify VERDICTS --out FILE | certify verify FILE [--model DIR]",
            "a whole green run as one archive that others can check",
            false,
            run_certify,
            "bridge-verify certify DIR/verdicts.json --out model.bvcert.tar.gz\n"
            "bridge-verify certify verify DIR/model.bvcert.tar.gz --model HF_DIR"},
    Command{{"completion", "", true},
            "completion bash|zsh|fish",
            "a script for the shell: options, values and commands at Tab",
            false,
            run_completion,
            "bridge-verify completion bash"},
    Command{{"doctor", "", false},
            "doctor",
            "what this build and machine can do",
            false,
            run_doctor,
            "bridge-verify doctor --json"},
    Command{{"help", "", true},
            "help [COMMAND|options]",
            "this text, that of a command, or every option",
            false,
            run_help},
    Command{{"version", "", false}, "version", "version, build and schemas", false, run_version},
    Command{
        {"__dump-codes", "", true}, "__dump-codes DIR", "writes docs/codes", false, run_dump_codes},
    Command{{"__dump-cli", "", true},
            "__dump-cli FILE",
            "writes docs/reference/cli.md",
            false,
            run_dump_cli},
    Command{{"__dump-man", "", true},
            "__dump-man FILE",
            "writes docs/man/bridge-verify.1",
            false,
            run_dump_man},
    Command{{"__dump-claims", "", true},
            "__dump-claims FILE",
            "writes docs/reference/claims.md",
            false,
            run_dump_claims},
    Command{{"__dump-mutants", "", true},
            "__dump-mutants FILE",
            "writes docs/reference/mutants.md",
            false,
            run_dump_mutants},
};

std::vector<CommandName> command_names() {
  std::vector<CommandName> names;
  for (const Command& command : kCommands) {
    names.push_back(command.name);
  }
  return names;
}

/// A run that was asked to stop says so, whatever it had found by then; a fault of ours comes
/// first.
int after_signal(int exit_code) {
  const int signal = stop_requested();
  return signal == 0 || exit_code == 4 ? exit_code : 128 + signal;
}

/// The command that the arguments name, found without understanding the rest.
const Command* named_command(const Context& context) {
  for (const std::string& word : context.arguments) {
    if (const Command* command = find_command(word)) {
      return command;
    }
  }
  return nullptr;
}

/// Commands whose --out is a folder of reports, not what they make.
bool writes_reports(const Command* command) {
  return command == nullptr ||
         (command->concludes && command->name.name != std::string_view("convert") &&
          command->name.name != std::string_view("lora"));
}

/// What was said in settings files and in the environment, for stderr: nothing is decided silently.
std::string settings_note(const Options& options) {
  std::vector<std::string> names;
  for (const Setting& setting : options.given) {
    if (setting.origin == Origin::File || setting.origin == Origin::Environment) {
      names.push_back(setting.written);
    }
  }
  return names.empty() ? "" : "note: " + escaped(join(names, ", ")) + "\n";
}

Error out_of_memory() {
  return fail(Code::OutOfMemory, "memory ran out")
      .advise("take fewer jobs with -j, or a larger machine");
}

/// For ends that nothing is returned from.
void tell_last_words(const Context& context, const Options& options, bool concludes) {
  const Error lost =
      fail(Code::IndexDisagrees, "a file of the model was truncated while it was read")
          .advise("let the other program finish, then run this again");
  StopWords stopped;
  for (const int signal : {SIGHUP, SIGINT, SIGTERM}) {
    stopped.emplace_back(
        signal,
        last_words(context, options, fail(Code::Stopped, "stopped while the inputs were read"),
                   concludes, signal));
  }
  set_last_words(last_words(context, options, lost, concludes),
                 last_words(context, options, out_of_memory(), concludes), std::move(stopped));
}

int dispatch(Context& context, Options& options) {
  const std::vector<CommandName> names = command_names();
  const auto files = read_settings(context.environment, context.folder);
  Reading reading =
      read_options(context.arguments, context.environment, names,
                   files ? std::span<const SettingsText>(*files) : std::span<const SettingsText>());
  options = std::move(reading.options);
  if (options.version && !options.help) {
    return run_version(context, options);
  }
  if (options.help) {
    context.streams.out(help_text(options.command));
    return 0;
  }
  if (options.format == "text" && options.verbosity() <= -2) {
    context.streams.mute();
  }
  if (!files || reading.error) {
    if (options.command.empty()) {
      const Command* command = named_command(context);
      options.command = command == nullptr ? "" : command->name.name;
    }
    return report_error(context, options, files ? *reading.error : files.error());
  }
  if (options.verbosity() >= 0) {
    for (const std::string& note : reading.notes) {
      context.streams.err("note: " + note + "\n");
    }
    context.streams.err(settings_note(options));
  }
  if (options.command.empty()) {
    context.streams.out(purpose_text());
    return 2;
  }
  const Command& command = *find_command(options.command);
  if (const auto ready = prepare(context, options); !ready) {
    return report_error(context, options, ready.error());
  }
  if (const auto alone = check_alone(context, options, command); !alone) {
    context.streams.be_silent(!writes_for_all(context));  // all are refused, one says it
    return report_error(context, options, alone.error());
  }
  if (writes_for_all(context)) {
    const bool folder = writes_reports(&command);
    auto ready = prepare_reports(context, options, folder);
    ready = ready && command.concludes ? mark_begun(context, options, folder) : ready;
    if (!ready) {
      const int code = report_error(context, options, ready.error());
      decline_world(context, options, ready.error());
      return code;
    }
  }
  tell_last_words(context, options, command.concludes);
  return command.run(context, options);
}

/// Of a world every process says what went wrong here: nobody else knows it.
int broken(Context& context, const Options& options, const Error& error) {
  context.streams.be_silent(false);
  context.streams.discard();
  return report_error(context, options, error);
}

}  // namespace

std::span<const Command> commands() {
  return kCommands;
}

const Command* find_command(std::string_view name) {
  for (const Command& command : kCommands) {
    if (command.name.name == name) {
      return &command;
    }
    for (const std::string& alias : words_of(command.name.aliases)) {
      if (alias == name) {
        return &command;
      }
    }
  }
  return nullptr;
}

namespace {

/// A size that nobody wrote is where it comes from.
Error with_etp_reason(const Options& options, Error error) {
  if (error.code == Code::IndivisibleDim && etp_follows(options) &&
      error.message.starts_with("ETP=")) {
    error.facts.emplace_back("ETP follows --tp, because --etp was not given");
    error.help += ", or 1 for uncut experts: --etp 1";
  }
  return error;
}

}  // namespace

int report_error(Context& context, const Options& options, const Error& found) {
  const Error error =
      with_etp_reason(options, with_similar_path(options, context.environment, found));
  context.streams.err(
      reports::render_error(error, style_for(context, options, context.err_is_terminal)));
  const Command* command = find_command(options.command);
  if (command == nullptr || command->concludes) {
    return finish_with_error(context, options, error, writes_reports(command));
  }
  if (options.json) {
    context.streams.out(error_json(options.command, error));
  }
  return after_signal(exit_code_of(error.code));
}

int run_command_line(Context& context) {
  int code = 4;
  Options options;
  try {
    code = dispatch(context, options);
  } catch (const std::bad_alloc&) {
    code = broken(context, options, out_of_memory());
  } catch (const std::exception& error) {
    code = broken(
        context, options,
        fail(Code::Assertion,
             fmt::format("an exception reached the end of the program: {}", error.what()))
            .advise("report it with the command line and the output of bridge-verify doctor"));
  } catch (...) {
    code = broken(
        context, options,
        fail(Code::Assertion, "an exception of unknown type reached the end of the program")
            .advise("report it with the command line and the output of bridge-verify doctor"));
  }
  if (!context.streams.flush()) {
    context.streams.err(
        reports::render_error(fail(Code::DiskFull, "the result could not be written to stdout")
                                  .advise("free space, or send it elsewhere"),
                              style_for(context, options, context.err_is_terminal)));
    code = code == 0 ? exit_code_of(Code::DiskFull) : code;  // nobody saw the green line
  }
  return after_signal(code);
}

}  // namespace bv::cli
