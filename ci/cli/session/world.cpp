#include "ci/cli/session/world.hpp"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <thread>

#include "ci/cli/build_info.hpp"
#include "ci/cli/command.hpp"
#include "ci/cli/session/families.hpp"
#include "ci/cli/session/finish.hpp"
#include "core/checkpoint/manifest.hpp"
#include "core/comm/agree.hpp"
#include "core/comm/grid.hpp"
#include "core/comm/group.hpp"
#include "core/comm/nccl.hpp"
#include "core/comm/processes.hpp"
#include "core/io/carry_file.hpp"
#include "core/io/digest.hpp"

namespace bv::cli {
namespace {

constexpr std::int64_t kPatienceSeconds = 300;

std::string this_host() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? std::string(name.data()) : "unknown";
}

comm::Variable variables_of(const Environment& environment) {
  return [&environment](std::string_view name) { return std::string(variable(environment, name)); };
}

/// What all processes of one run do alike, where they are on one host.
std::string command_of(const Context& context) {
  std::error_code ignored;
  std::string out = std::filesystem::current_path(ignored).string();
  for (const std::string& argument : context.arguments) {
    out += '\0' + argument;
  }
  return out;
}

/// What another rank says of rank 0, when that one cannot say it itself.
bool is_about_host(const Error& why) {
  return why.code == Code::RankLost && why.message.starts_with("rank 0 ");
}

/// A rank is lost or does something else; what a rank says that stopped is said by rank 0 alone.
bool is_loss(const Error& why) {
  return why.code == Code::RankDiverged ||
         (why.code == Code::RankLost && why.message.find(" stopped: ") == std::string::npos);
}

/// Before the report of an error that nobody but rank 0 makes in full.
void tell_loss(Context& context, int rank, const Error& why) {
  if (rank == 0) {
    return;
  }
  context.streams.be_silent(false);
  if (is_about_host(why)) {
    return;
  }
  if (is_loss(why)) {
    context.streams.err(
        fmt::format("rank {} ends with {}: {}\n", rank, label(why.code), why.message));
  }
  context.streams.be_silent(true);
}

/// Options that may differ from process to process: where the same files lie, what rank 0 alone
/// writes or decides, and what a process works with. What lies at those places is compared where it
/// is read.
constexpr std::array<std::string_view, 28> kOwn = {
    "model",   "rules",        "families", "headers", "like",   "megatron",  "adapter",
    "against", "merged",       "out",      "format",  "json",   "report",    "plain",
    "ascii",   "dump-headers", "ci",       "quiet",   "color",  "progress",  "verbose",
    "jobs",    "device",       "patience", "waivers", "replay", "survivors", "baseline"};

/// Errors: RankDiverged naming the process that was started with other options.
Status agree_on_options(const Options& options, comm::Link& link) {
  std::map<std::string, std::string> said = {{"command", options.command}};
  if (options.command != "diff") {  // its operands are places, like those of --model
    for (const std::string& operand : options.operands) {
      said["command"] += " " + operand;
    }
  }
  for (const Setting& one : options.given) {
    if (std::find(kOwn.begin(), kOwn.end(), one.name) == kOwn.end()) {
      said["--" + one.name] += (one.text.empty() ? "given" : one.text) + " ";
    }
  }
  std::vector<comm::Fact> facts;
  for (const auto& [name, text] : said) {
    facts.push_back({name, text.substr(0, text.size() - (name == "command" ? 0 : 1))});
  }
  return comm::agree_on_facts(link, facts);
}

std::string digest_of(std::string_view text) {
  io::Digest digest;
  digest.add(text);
  return digest.hex();
}

/// NCCL on the GPU of this process.
Result<std::shared_ptr<comm::CarrierMaker>> carriers_of(const Context& context,
                                                        const Options& options,
                                                        std::chrono::seconds patience) {
  if (options.collectives != "nccl") {
    return std::shared_ptr<comm::CarrierMaker>();
  }
  const std::int64_t place = comm::place_on_host(variables_of(context.environment));
  auto out = comm::open_nccl(static_cast<int>(place), patience);
  if (!out) {
    out.error().message = "--collectives nccl: " + out.error().message;
  }
  return out;
}

/// Every two processes have a connection: the usual limit is far lower than what a process may ask
/// for.
void raise_limit_of_open_files() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    static_cast<void>(::setrlimit(RLIMIT_NOFILE, &limit));  // else the usual one has to do
  }
}

/// Nothing for a process that is alone. Errors: those of comm::launch_from.
Result<std::optional<comm::Launch>> launch_of(const Context& context) {
  BV_TRY(launch, comm::launch_from(variables_of(context.environment), command_of(context)));
  if (launch) {
    raise_limit_of_open_files();
    launch->version = build_version() + std::string(" ") + build_commit();
    launch->host = this_host();
  }
  return launch;
}

std::chrono::seconds patience_of(const Options& options) {
  return std::chrono::seconds(options.patience.value_or(kPatienceSeconds));
}

}  // namespace

void decline_world(const Context& context, const Options& options, const Error& why) {
  if (const auto launch = launch_of(context); launch && *launch) {
    if (const auto link = comm::enter(**launch, patience_of(options))) {
      (*link)->fail_all(why);
    }
  }
}

Result<World> World::enter(Context& context, Options& options) {
  World out;
  const std::chrono::seconds patience = patience_of(options);
  BV_TRY(launch, launch_of(context));
  if (!launch) {
    options.alone = true;
    BV_CHECK(carriers_of(context, options, patience));  // what was asked for is there, or an error
    return out;
  }
  context.streams.be_silent(launch->rank != 0);
  if (launch->rank != 0) {
    const bool writes_out = options.command == "convert" || options.command == "lora";
    options.out = writes_out ? options.out : "";
    options.ci = "none";
    context.gate.reports.clear();
  }
  if (!options.has("jobs")) {
    const auto cores = static_cast<std::int64_t>(std::max(1U, std::thread::hardware_concurrency()));
    options.jobs = std::max<std::int64_t>(
        1, cores / comm::processes_on_host(variables_of(context.environment)));
  }
  auto link = comm::enter(*launch, patience);
  if (!link) {
    tell_loss(context, launch->rank, link.error());
    if (link.error().code != Code::RankLost && link.error().code != Code::RankDiverged) {
      context.streams.be_silent(false);  // of its own surroundings: nobody else knows it
    }
    return std::move(link).error();
  }
  out.link_ = std::move(*link);
  out.link_->work_untold(true);
  const auto ready = [&]() -> Status {
    BV_TRY(carriers, carriers_of(context, options, patience));
    out.link_->carry_by(std::move(carriers));
    return agree_on_options(options, *out.link_);
  }();
  if (!ready) {
    out.link_->fail_all(ready.error());
    tell_loss(context, launch->rank, ready.error());
    return ready.error();
  }
  return out;
}

bool World::is_host() const {
  return link_ == nullptr || link_->rank() == 0;
}

Status agree_on(comm::Link* world, std::span<const parallel::Layout> layouts,
                const std::string& what) {
  if (world == nullptr) {
    return Done{};
  }
  if (!layouts.empty()) {
    world->name_coordinates(comm::coordinates_of_processes(layouts.front(), world->size()));
  }
  return comm::whole_world(*world).barrier(what);
}

Status agree_on_model(comm::Link* world, const Options& options, const OpenedModel& opened) {
  if (world == nullptr) {
    return Done{};
  }
  BV_TRY(families, families_digest(options));
  const std::vector<comm::Fact> facts = {
      {"set of tensor headers", opened.hf.header_digest},
      {"config.json", digest_of(opened.hf.config_text + opened.hf.quantised_config)},
      {"rules file", opened.under_test == nullptr ? "" : opened.under_test->digest},
      {"set of families", families}};
  return comm::agree_on_facts(*world, facts);
}

Status agree_on_folder(comm::Link* world, const checkpoint::MegatronFolder& folder,
                       const Options& options) {
  if (world == nullptr) {
    return Done{};
  }
  BV_TRY(families, families_digest(options));
  BV_TRY(manifest, io::print_of_file(folder.folder / checkpoint::kManifestName));
  std::vector<comm::Fact> facts = {{"manifest.json", manifest.digest},
                                   {"config.json", digest_of(folder.config_text)},
                                   {"set of families", families},
                                   {"plan", folder.plan_digest},
                                   {"rules file", ""}};
  if (const std::filesystem::path rules = options.rules.empty()
                                              ? folder.folder / checkpoint::kRulesName
                                              : std::filesystem::path(options.rules);
      folder.rules || !options.rules.empty()) {
    BV_TRY(print, io::print_of_file(rules));
    facts.back().value = print.digest;
  }
  return comm::agree_on_facts(*world, facts);
}

}  // namespace bv::cli
