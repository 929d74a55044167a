#include "ci/cli/session/session.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <system_error>
#include <thread>

#include "ci/cli/options/command_text.hpp"
#include "ci/cli/session/families.hpp"
#include "ci/cli/session/fixture_model.hpp"
#include "ci/cli/session/foreign_rules.hpp"
#include "ci/cli/session/idle_options.hpp"
#include "ci/cli/session/signals.hpp"
#include "core/base/arith.hpp"
#include "core/base/text.hpp"
#include "core/checkpoint/folder_names.hpp"
#include "core/checkpoint/open_model.hpp"
#include "core/comm/link.hpp"
#include "core/foreign/usual.hpp"
#include "core/io/headers_dump.hpp"

namespace bv::cli {
namespace fs = std::filesystem;

namespace {

/// The lines of --rules; else those of the rules that a Megatron folder of ours was written with.
/// Rules that cannot be read there are told of when the folder is opened, by its manifest.
Result<kinds::Catalogue> lines_for(const Options& options) {
  std::error_code ignored;
  const fs::path folder(options.model);
  const bool brings_rules = options.rules.empty() &&
                            fs::is_regular_file(folder / checkpoint::kManifestName, ignored) &&
                            fs::is_regular_file(folder / checkpoint::kRulesName, ignored);
  if (brings_rules) {
    if (auto lines = catalogue_for_rules((folder / checkpoint::kRulesName).string())) {
      return lines;
    }
  }
  return catalogue_for_rules(options.rules);
}

}  // namespace

Result<Library> load_library(const Options& options) {
  BV_TRY(families, load_families(options));
  BV_TRY(catalogue, lines_for(options));
  if (!options.families.empty()) {
    BV_CHECK(check_families(families, catalogue));
  }
  return Library{std::move(families), std::move(catalogue)};
}

io::LocateRoots locate_roots(const Context& context) {
  const auto& env = context.environment;
  std::string cache(variable(env, "HF_HUB_CACHE"));
  if (cache.empty() && !variable(env, "HF_HOME").empty()) {
    cache = std::string(variable(env, "HF_HOME")) + "/hub";
  }
  if (cache.empty()) {
    const std::string base = !variable(env, "XDG_CACHE_HOME").empty()
                                 ? std::string(variable(env, "XDG_CACHE_HOME"))
                                 : std::string(variable(env, "HOME")) + "/.cache";
    cache = base + "/huggingface/hub";
  }
  return {cache, {}};  // paths stay as they were written, in messages too
}

Result<io::LocatedModel> locate(const Context& context, const Options& options) {
  if (!options.headers.empty()) {
    return io::classify_path(options.headers);
  }
  if (options.model.empty()) {
    return fail(Code::BadValue, fmt::format("{} needs a model", options.command))
        .advise(options.command.starts_with("lora") ? "write --model DIR: the base of the adapter"
                                                    : "write --model DIR, or --headers FILE");
  }
  std::error_code ignored;
  if (!options.revision.empty() && fs::exists(options.model, ignored)) {
    return fail(Code::BadValue, fmt::format("{} is on the disk, and --revision is for models of "
                                            "the HF cache",
                                            escaped(options.model)))
        .advise("leave --revision out, or write --model ORG/NAME");
  }
  const bool named = options.revision.empty() || options.model.find('@') != std::string::npos;
  BV_TRY(found, io::locate_model(named ? options.model : options.model + "@" + options.revision,
                                 locate_roots(context)));
  if (found.kind == io::ModelKind::SafetensorsFile && options.command != "inspect" &&
      options.command != "diff") {
    found.notes.push_back("the whole folder of that file is looked at");
  }
  return std::move(found);
}

checkpoint::OpenOptions open_options(const Options& options) {
  checkpoint::OpenOptions out;
  out.resolve.spelling.transformer_engine = options.transformer_impl != "local";
  out.resolve.spelling.grouped_experts = !options.sequential_experts;
  out.resolve.drop_mtp = options.drop_mtp;
  out.resolve.expert_orientation =
      family::orientation_from(options.expert_orientation).value_or(family::Orientation::ByShape);
  out.settings = options.settings;
  out.family = options.family;
  out.filter = {options.match, options.exclude};
  out.strict = options.strict;
  constexpr std::array<std::string_view, 5> kTakes = {"check", "roundtrip", "convert", "diff",
                                                      "layout"};
  const bool takes = std::ranges::find(kTakes, options.command) != kTakes.end();
  const auto policy = plan::dtype_policy(options.dtype);
  if (takes && options.adapter.empty() && policy) {
    out.dequantise = policy->params;
  } else if (options.command == "trace") {
    out.dequantise = DType::BF16;  // places are those of any type
  }
  return out;
}

void tell_findings(const io::Checkpoint& checkpoint, std::vector<std::string>& notes,
                   std::vector<Error>& warnings) {
  for (const io::FormatFinding& finding : checkpoint.findings()) {
    if (finding.warning) {
      warnings.push_back(io::warning_of(finding));
    } else {
      notes.push_back(finding.file + ": " + finding.what);
    }
  }
}

Result<OpenedModel> open_model(const Context& context, const Options& options,
                               const Library& library, AbsentShards absent,
                               checkpoint::Additions additions, LeftOut left_out) {
  OpenedModel out;
  out.reference = options.headers.empty() ? options.model : options.headers;
  checkpoint::OpenOptions open = open_options(options);
  open.resolve.left_out = std::move(left_out);
  if (!options.rules.empty()) {  // judged by the Megatron modules when no family knows the model
    BV_TRY(usual, foreign::usual_family());
    open.fallback = std::move(usual);
    open.fallback_view = foreign::flat_config;
  }
  open.absent_shards = absent == AbsentShards::Name;
  open.additions = std::move(additions);
  if (const auto fixture = fixture_name(out.reference); fixture && options.headers.empty()) {
    BV_TRY(made, make_fixture(context, options, library, *fixture));
    BV_TRY(hf, checkpoint::open_hf(made.folder, library.families, open));
    out.hf = std::move(hf);
    BV_CHECK(use_foreign_rules(options, out));
    out.source = "fixture";
    out.keeps = std::move(made.keeps);
    return out;
  }
  BV_TRY(located, locate(context, options));
  out.notes = located.notes;
  if (located.kind == io::ModelKind::HeadersDump) {
    BV_TRY(dump, io::read_dumped_model(located.path));
    BV_TRY(hf, checkpoint::open_headers(std::move(dump.config), located.path.string(),
                                        std::move(dump.headers), library.families, open));
    out.hf = std::move(hf);
    BV_CHECK(use_foreign_rules(options, out));
    out.source = "headers";
    return out;
  }
  BV_CHECK(io::require_hf(located));
  out.source =
      located.path.string() == out.reference || fs::exists(out.reference) ? "dir" : "cache";
  const fs::path folder = located.kind == io::ModelKind::HfFolder ? located.path : located.folder;
  BV_TRY(hf, checkpoint::open_hf(folder, library.families, open));
  out.hf = std::move(hf);
  BV_CHECK(use_foreign_rules(options, out));
  if (out.hf.checkpoint) {
    tell_findings(*out.hf.checkpoint, out.notes, out.warnings);
  }
  return out;
}

std::string why_alone(const checkpoint::HfModel& hf) {
  constexpr std::string_view kUnknown = "no family knows it; --rules";
  return hf.chosen.because == kUnknown ? "no family knows " + hf.architecture
                                       : hf.chosen.because.substr(0, hf.chosen.because.rfind(';'));
}

/// Why these rules; with --rules, also what they are held against.
std::string reason_of(const OpenedModel& opened) {
  const checkpoint::HfModel& hf = opened.hf;
  if (opened.under_test == nullptr) {
    return hf.chosen.because;
  }
  return opened.under_test->alone
             ? fmt::format("from --rules, held against the Megatron modules: {}", why_alone(hf))
             : fmt::format("from --rules, held against family {}, {}",
                           family::name(*opened.under_test->wanted.family), hf.chosen.because);
}

void describe_model(const Options& options, const OpenedModel& opened, Run& run) {
  const checkpoint::HfModel& hf = opened.hf;
  run.model_ref = opened.reference;
  run.model_source = opened.source;
  run.architecture = hf.architecture;
  run.model_type = hf.model_type;
  if (hf.model.family) {
    run.family = family::name(*hf.model.family);
    run.family_reason = reason_of(opened);
    run.rules = static_cast<std::int64_t>(family::rules(*hf.model.family).size());
  }
  run.header_digest = hf.header_digest;
  run.tensors = static_cast<std::int64_t>(hf.headers.size());
  run.shards = static_cast<std::int64_t>(hf.files);
  std::map<std::string, std::int64_t> dtypes;
  for (const auto& [tensor, spec] : hf.headers) {
    if (hf.incomplete && spec.shape.empty()) {
      continue;  // known by its name alone
    }
    const std::int64_t elements = element_count(spec.shape).value_or(0);
    run.elements = capped_add(run.elements, elements);
    run.bytes += tensor_bytes(spec);
    ++dtypes[std::string(name(spec.dtype))];
  }
  run.dtypes.assign(dtypes.begin(), dtypes.end());
  for (const model::Detected& one : hf.model.detected) {
    run.detected.push_back({one.what, one.value, one.because});
  }
  run.notes.insert(run.notes.end(), opened.notes.begin(), opened.notes.end());
  run.warnings.insert(run.warnings.end(), opened.warnings.begin(), opened.warnings.end());
  run.notes.insert(run.notes.end(), hf.notes.begin(), hf.notes.end());
  if (hf.model.family) {
    describe_rules(opened, run);
  }
  if (const std::size_t dropped = hf.model.dropped.size(); dropped > 0) {
    run.notes.push_back(fmt::format("{} left out by --drop-mtp: {}{}", counted(dropped, "tensor"),
                                    hf.model.dropped.front(), dropped > 1 ? ", ..." : ""));
  }
  for (const IdleOption& idle : idle_options(options, hf.model)) {
    run.notes.push_back(idle.note);
  }
  if (const std::int64_t unasked = hf.model.unasked; unasked > 0) {
    run.partial = true;
    run.notes.push_back(
        fmt::format("--exclude leaves out {} that the model has: a run without them passes with "
                    "--allow-partial",
                    counted(unasked, "parameter")));
  }
  constexpr std::size_t kNamesShown = 8;
  for (std::size_t i = 0; i < std::min(hf.excluded.size(), kNamesShown); ++i) {
    run.notes.push_back("left out by --exclude: " + hf.excluded[i]);
  }
  if (hf.excluded.size() > kNamesShown) {
    run.notes.push_back(
        fmt::format("left out by --exclude: {} more", hf.excluded.size() - kNamesShown));
  }
}

int jobs_of(const Options& options) {
  const auto cores = static_cast<std::int64_t>(std::max(1U, std::thread::hardware_concurrency()));
  return static_cast<int>(std::clamp<std::int64_t>(options.jobs.value_or(cores), 1, 256));
}

std::string replay_base(const Options& options) {
  return replay_line(options, options.command, "", "");
}

/// Wakes the progress line twice a second, so that nothing is silent.
struct CommandProgress::Ticker {
  explicit Ticker(Progress& progress)
      : thread([this, &progress] {
          std::unique_lock lock(mutex);
          while (!wake.wait_for(lock, std::chrono::milliseconds(500), [this] { return done; })) {
            progress.tick();
            if (status_requested()) {
              progress.show_status();
            }
          }
        }) {}
  ~Ticker() {
    {
      const std::lock_guard lock(mutex);
      done = true;
    }
    wake.notify_all();
    thread.join();
  }
  Ticker(const Ticker&) = delete;
  Ticker& operator=(const Ticker&) = delete;
  std::mutex mutex;
  std::condition_variable wake;
  bool done = false;
  std::thread thread;
};

CommandProgress::CommandProgress(Context& context, const Options& options, comm::Link* world)
    : world_(world),
      progress_({progress_mode(options.progress, context.err_is_terminal, options.verbosity()),
                 [&context] { return width_of(context); }, options.ascii},
                context.seconds, [&context](std::string_view text) { context.streams.err(text); }) {
}

CommandProgress::~CommandProgress() {
  ticker_.reset();
  progress_.finish();
}

void CommandProgress::start(std::string_view phase, std::uint64_t total_bytes,
                            std::uint64_t total_tensors) {
  progress_.start(std::string(phase), total_bytes, static_cast<std::int64_t>(total_tensors));
  if (!ticker_) {
    try {
      ticker_ = std::make_unique<Ticker>(progress_);
    } catch (const std::system_error&) {  // no thread to be had: the line moves with the work only
    }
  }
}

void CommandProgress::advance(std::uint64_t bytes, std::uint64_t tensors,
                              std::string_view current) {
  progress_.add(bytes, static_cast<std::int64_t>(tensors), current);
  if (world_ != nullptr) {
    world_->advance();
  }
}

bool CommandProgress::stop_requested() const {
  look_at_stops();
  return cli::stop_requested() != 0 || (world_ != nullptr && world_->world_is_broken());
}

}  // namespace bv::cli
