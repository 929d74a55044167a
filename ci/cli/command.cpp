#include "ci/cli/command.hpp"

#include <fmt/format.h>

#include <array>
#include <exception>
#include <new>

#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/signals.hpp"
#include "core/base/text.hpp"
#include "reports/error_text.hpp"

namespace bv::cli {
namespace {

constexpr std::array kCommands = {
    Command{{"check", "", false},
            "check --model DIR",
            "names, shapes, proofs and placement from headers (the default)",
            true,
            run_check},
    Command{{"roundtrip", "", false},
            "roundtrip --model DIR",
            "check, and every byte moved and compared",
            true,
            run_check},
    Command{{"convert", "import export", false},
            "convert --to megatron|hf --model DIR --out DIR",
            "writes the other form, verified",
            true,
            run_convert},
    Command{{"trace", "", true},
            "trace NAME [INDEX] --model DIR",
            "where a tensor or one element lies on the other side",
            false,
            run_trace},
    Command{{"layout", "", false},
            "layout [--model DIR]",
            "ranks, stages and shard files of a parallel layout",
            false,
            run_layout},
    Command{{"inspect", "", false},
            "inspect --model PATH",
            "tensors of a checkpoint; writes headers dumps",
            false,
            run_inspect},
    Command{{"diff", "", true},
            "diff HF_DIR OTHER_DIR",
            "two checkpoints: which tensors differ, and where their rows went",
            true,
            run_diff},
    Command{{"models", "", true},
            "models list | models show NAME",
            "families known by file",
            false,
            run_models},
    Command{{"rules", "", true},
            "rules list | rules show [FAMILY]",
            "kinds of the layout notation, rules of a family",
            false,
            run_rules},
    Command{{"fixture", "", true},
            "fixture list | fixture make NAME --out DIR",
            "tiny checkpoints of every family and storage form",
            false,
            run_fixture},
    Command{{"fuzz", "", false},
            "fuzz --seconds N --seed S | fuzz --replay FILE",
            "random geometries and layouts, judged by every claim",
            true,
            run_fuzz},
    Command{{"mutate", "", true},
            "mutate [FAMILY|SAMPLE ...] --operators DROP,SWAP --survivors FILE",
            "plants every fault into every family and shows which claim sees it",
            true,
            run_mutate},
    Command{{"explain", "", true}, "explain CODE", "full text of a code", false, run_explain},
    Command{
        {"doctor", "", false}, "doctor", "what this build and machine can do", false, run_doctor},
    Command{
        {"help", "", true}, "help [COMMAND]", "this text, or that of a command", false, run_help},
    Command{{"version", "", false}, "version", "version, build and schemas", false, run_version},
    Command{
        {"__dump-codes", "", true}, "__dump-codes DIR", "writes docs/codes", false, run_dump_codes},
    Command{{"__dump-cli", "", true},
            "__dump-cli FILE",
            "writes docs/reference/cli.md",
            false,
            run_dump_cli},
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

std::string_view word_of(int exit_code) {
  return exit_code > 128  ? "STOPPED"
         : exit_code == 2 ? "USAGE"
         : exit_code == 5 ? "INPUT"
         : exit_code == 3 ? "INCOMPLETE"
         : exit_code == 1 ? "FAIL"
                          : "BROKEN";
}

/// A run that was asked to stop says so, whatever it had found by then; a fault of ours comes
/// first.
int after_signal(int exit_code) {
  const int signal = stop_requested();
  return signal == 0 || exit_code == 4 ? exit_code : 128 + signal;
}

/// True when the raw arguments ask for something else than text on stdout.
bool wants_data(const Context& context) {
  for (std::size_t i = 0; i < context.arguments.size(); ++i) {
    const std::string& word = context.arguments[i];
    const std::string next = i + 1 < context.arguments.size() ? context.arguments[i + 1] : "";
    const bool format = (word == "--format" && next != "text") ||
                        (word.starts_with("--format=") && word != "--format=text");
    if (word == "--json" || word == "-qq" || format) {
      return true;
    }
  }
  return false;
}

/// A command line that could not be understood still ends with the stable last line, unless stdout
/// is for data.
void conclude_early(Context& context, const Command* command, int exit_code) {
  if ((command == nullptr || command->concludes) && !wants_data(context)) {
    context.streams.out(last_line(word_of(exit_code)) + "\n");
  }
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

int dispatch(Context& context) {
  const std::vector<CommandName> names = command_names();
  const auto parsed = parse_options(context.arguments, context.environment, names);
  if (!parsed) {
    const int code = report_error(context, Options{}, parsed.error());
    conclude_early(context, named_command(context), code);
    return code;
  }
  const Options& options = parsed->options;
  for (const std::string& note : parsed->notes) {
    context.streams.err("note: " + note + "\n");
  }
  if (options.version && !options.help) {
    return run_version(context, options);
  }
  if (options.help) {
    context.streams.out(help_text(options.command));
    return 0;
  }
  if (options.command.empty()) {
    context.streams.out(purpose_text());
    return 2;
  }
  const Command* command = find_command(options.command);
  if (command == nullptr) {
    const int code = report_error(
        context, options,
        fail(Code::UnknownOption, fmt::format("this build has no command {}", options.command))
            .advise("bridge-verify help lists every command"));
    conclude_early(context, nullptr, code);
    return code;
  }
  set_concludes(command->concludes && options.format == "text" && options.verbosity() > -2);
  return command->run(context, options);
}

int broken(Context& context, std::string_view what) {
  context.streams.discard();
  const int code = report_error(
      context, Options{},
      fail(Code::Assertion, fmt::format("an exception reached the end of the program: {}", what))
          .advise("report it with the command line and the output of bridge-verify doctor"));
  conclude_early(context, named_command(context), code);
  return code;
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

int exit_code_of(Code code) {
  const auto family = static_cast<unsigned>(code) / 1000;
  if (is_unsupported(code)) {
    return 3;
  }
  if (family == 0) {
    return 2;
  }
  return family == 5 || family == 9 ? 4 : family == 6 ? 1 : 5;
}

int report_error(Context& context, const Options& options, const Error& error) {
  context.streams.err(
      reports::render_error(error, style_for(context, options, context.err_is_terminal)));
  const int code = after_signal(exit_code_of(error.code));
  const Command* command = find_command(options.command);
  if (command != nullptr && command->concludes && options.format == "text" &&
      options.verbosity() > -2) {
    context.streams.out(last_line(word_of(code)) + "\n");
  }
  return code;
}

int run_command_line(Context& context) {
  int code = 4;
  try {
    code = dispatch(context);
  } catch (const std::bad_alloc&) {
    context.streams.discard();
    code = report_error(context, Options{},
                        fail(Code::OutOfMemory, "memory ran out")
                            .advise("take fewer jobs with -j, or a larger machine"));
    conclude_early(context, named_command(context), code);
  } catch (const std::exception& error) {
    code = broken(context, error.what());
  } catch (...) {
    code = broken(context, "of unknown type");
  }
  if (!context.streams.flush()) {
    const int lost = report_error(context, Options{},
                                  fail(Code::DiskFull, "the result could not be written to stdout")
                                      .advise("free space, or send it elsewhere"));
    code = code == 0 ? lost : code;  // nobody saw the green line
  }
  return after_signal(code);
}

}  // namespace bv::cli
