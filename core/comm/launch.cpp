#include "core/comm/launch.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <vector>

#include "core/base/text.hpp"

namespace bv::comm {
namespace {

constexpr std::int64_t kRanksMax = 4096;  // every two of them have a connection
constexpr int kFirstPort = 20000;
constexpr int kPorts = 20000;
constexpr const char* kSetBoth =
    "set MASTER_ADDR to the host of rank 0 and MASTER_PORT to a free port, the same for all "
    "processes (-x of Open MPI, -genv of MPICH and Intel MPI)";

/// One launcher's names for the same things; the innermost launcher stands first, since it hands on
/// the variables of the others.
struct Names {
  std::string_view launcher;
  std::string_view mark;  // without it this launcher was not at work
  std::string_view size, rank;
};
constexpr std::array kLaunchers = {
    Names{"torchrun", "WORLD_SIZE", "WORLD_SIZE", "RANK"},
    Names{"mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
    Names{"mpirun", "PMI_SIZE", "PMI_SIZE", "PMI_RANK"},
    // SLURM sets its variables for the whole allocation: only in a step srun has started one
    // process a task.
    Names{"srun", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"},
};
constexpr std::array<std::string_view, 5> kPlaces = {"LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK",
                                                     "MPI_LOCALRANKID", "PMI_LOCAL_RANK",
                                                     "SLURM_LOCALID"};
constexpr std::array<std::string_view, 5> kProcessesHere = {
    "LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "PMI_LOCAL_SIZE",
    "SLURM_STEP_TASKS_PER_NODE"};

std::optional<std::int64_t> number(const std::string& text) {
  std::int64_t out = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), out);
  return read.ec == std::errc() && read.ptr == text.data() + text.size() ? std::optional(out)
                                                                         : std::nullopt;
}

/// A number in least..most. Errors: BadValue naming the variable.
Result<std::int64_t> number_of(const Variable& variable, std::string_view name, std::int64_t least,
                               std::int64_t most) {
  const std::string text = variable(name);
  const auto out = number(text);
  if (!out || *out < least || *out > most) {
    return fail(Code::BadValue, text.empty() ? fmt::format("{} is not set", name)
                                             : fmt::format("{}={} is not a number from {} to {}",
                                                           name, readable(text), least, most))
        .pair(text.empty() ? "nothing" : readable(text), fmt::format("{} to {}", least, most))
        .advise("start with torchrun, srun or mpirun; to run alone: " + run_alone(variable));
  }
  return *out;
}

/// The allocation of an interactive shell has more tasks than its step.
std::string_view size_name(const Variable& variable, const Names& names) {
  return names.launcher == "srun" && variable(names.size).empty() ? "SLURM_NTASKS" : names.size;
}

/// Are the variables PMI_ those of SLURM (srun --mpi=pmi2)? Those of this step say what the step
/// says, those of an earlier one nothing. The process manager of MPICH and Intel MPI counts the
/// processes of a host.
bool are_of_slurm(const Variable& variable) {
  const std::string job = variable("SLURM_JOB_ID");
  const bool of_job = !job.empty() && variable("PMI_JOBID").starts_with(job + ".");
  const std::string tasks = variable(size_name(variable, kLaunchers.back()));
  return !variable(kLaunchers.back().mark).empty() && variable("MPI_LOCALNRANKS").empty() &&
         (of_job || variable("PMI_SIZE") == tasks);
}

/// The launcher that started this process.
const Names* launcher_of(const Variable& variable) {
  for (const Names& one : kLaunchers) {
    const bool at_work = !variable(one.mark).empty() && !variable(size_name(variable, one)).empty();
    if (at_work && !(one.size == "PMI_SIZE" && are_of_slurm(variable))) {
      return &one;
    }
  }
  return nullptr;
}

std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 14695981039346656037U;  // FNV-1a
  for (const char one : text) {
    hash = (hash ^ static_cast<unsigned char>(one)) * 1099511628211U;
  }
  return hash;
}

/// A port that all processes of one run compute alike.
int port_of_run(std::string_view run) {
  return kFirstPort + static_cast<int>(hash_of(run) % kPorts);
}

std::string first_of(const Variable& variable, std::span<const std::string_view> names) {
  for (const std::string_view name : names) {
    if (std::string value = variable(name); !value.empty()) {
      return value;
    }
  }
  return "";
}

std::string step_of(const Variable& variable) {
  const std::string job = variable("SLURM_JOB_ID");
  return job.empty() ? "" : job + "." + variable("SLURM_STEP_ID");
}

/// The name that the launcher gave this run; what an outer launcher says is the same for two runs
/// that it holds.
std::string name_by(const Variable& variable, const Names& names) {
  constexpr std::array<std::string_view, 1> kTorchrun = {"TORCHELASTIC_RUN_ID"};
  constexpr std::array<std::string_view, 2> kOpenMpi = {"PMIX_NAMESPACE",
                                                        "OMPI_MCA_ess_base_jobid"};
  constexpr std::array<std::string_view, 1> kPals = {"PALS_APID"};
  if (names.launcher == "torchrun") {
    return first_of(variable, kTorchrun);
  }
  if (names.launcher == "srun") {
    return step_of(variable);
  }
  if (names.size == "OMPI_COMM_WORLD_SIZE") {
    return first_of(variable, kOpenMpi);
  }
  const std::string pals = first_of(variable, kPals);
  const std::string job = variable("SLURM_JOB_ID");
  const std::string id = variable("PMI_JOBID");
  return !pals.empty() || (!job.empty() && id.starts_with(job + ".")) ? pals : id;
}

/// Everything that tells this run from others; "" when nobody names it. The port is a part: two
/// runs of torchrun are "none" both.
std::string run_of(const Variable& variable, const Names& names) {
  std::string out = name_by(variable, names);
  if (const std::string port = variable("MASTER_PORT"); !port.empty()) {
    return out + (out.empty() ? "port " : ", port ") + port;
  }
  // WORLD_SIZE may be what a script made of the variables of srun or mpirun.
  for (const Names& outer : kLaunchers) {
    const bool at_work = names.launcher == "torchrun" && !variable(outer.mark).empty();
    out = out.empty() && at_work ? name_by(variable, outer) : out;
  }
  return out;
}

bool all_on_one_host(const Variable& variable, const Names& names, std::int64_t size) {
  const std::string here = names.launcher == "torchrun" ? variable("LOCAL_WORLD_SIZE")
                           : names.size == "PMI_SIZE"
                               ? first_of(variable, std::span(kProcessesHere).subspan(2, 2))
                               : variable("OMPI_COMM_WORLD_LOCAL_SIZE");
  return names.launcher != "srun" && number(here) == size;
}

/// Where rank 0 is when MASTER_ADDR does not say it.
Result<std::string> address_of(const Variable& variable, const Names& names, std::int64_t size) {
  if (const std::string address = variable("MASTER_ADDR"); !address.empty()) {
    return address;
  }
  if (names.launcher == "srun") {
    return first_host(variable("SLURM_STEP_NODELIST"));
  }
  if (all_on_one_host(variable, names, size)) {
    return std::string("127.0.0.1");
  }
  return fail(Code::BadValue, fmt::format("{} processes of {}, and nobody says where rank 0 is",
                                          size, names.launcher))
      .pair("no MASTER_ADDR", "the host of rank 0")
      .advise(kSetBoth);
}

/// The port of rank 0, and what tells the run apart. Errors: BadValue where another run may come to
/// the same port.
Status name_run(const Variable& variable, const Names& names, std::string_view command,
                Launch& out) {
  out.run = run_of(variable, names);
  if (!variable("MASTER_PORT").empty()) {
    BV_TRY(port, number_of(variable, "MASTER_PORT", 1, 65535 - kPortsTried));
    out.port = static_cast<int>(port);
    return Done{};
  }
  if (!out.run.empty()) {
    out.port = port_of_run(out.run);
    return Done{};
  }
  if (!all_on_one_host(variable, names, out.size)) {
    return fail(Code::BadValue,
                fmt::format("{} processes of {}, and nothing tells this run from another one",
                            out.size, names.launcher))
        .pair("no MASTER_PORT", "a port of this run")
        .advise(kSetBoth);
  }
  out.command = fmt::format("{:016x}", hash_of(command));
  out.port = port_of_run(out.command);
  return Done{};
}

}  // namespace

std::string first_host(std::string_view list) {
  const std::size_t open = list.find('[');
  const std::size_t comma = list.find(',');
  if (open == std::string_view::npos || comma < open) {
    return std::string(list.substr(0, comma));
  }
  const std::size_t close = std::min(list.find(']', open), list.size());
  const std::string_view inside = list.substr(open + 1, close - open - 1);
  const std::string_view number = inside.substr(0, inside.find_first_of(",-"));
  const std::string_view behind = list.substr(std::min(close + 1, list.size()));
  return std::string(list.substr(0, open)) + std::string(number) +
         first_host(behind.substr(0, behind.find(',')));
}

std::string run_alone(const Variable& variable) {
  std::vector<std::string_view> taken;
  const Variable left = [&](std::string_view name) {
    const bool is_taken = std::find(taken.begin(), taken.end(), name) != taken.end();
    return is_taken ? std::string() : variable(name);
  };
  for (const Names* one = launcher_of(left); one != nullptr; one = launcher_of(left)) {
    if (number(left(size_name(left, *one))) == 1) {
      break;
    }
    taken.push_back(one->mark);
  }
  std::string out = taken.empty() ? "" : "env ";
  for (const std::string_view name : taken) {
    out += fmt::format("-u {} ", name);
  }
  return out + "bridge-verify ...";
}

std::int64_t place_on_host(const Variable& variable) {
  for (const std::string_view name : kPlaces) {
    if (const auto place = number(variable(name)); place && *place >= 0) {
      return *place;
    }
  }
  return 0;
}

std::int64_t processes_on_host(const Variable& variable) {
  for (const std::string_view name : kProcessesHere) {
    const std::string text = variable(name);
    const auto here = number(text.substr(0, text.find_first_of("(,")));  // of "4(x2),3" the first
    if (here && *here > 0) {
      return *here;
    }
  }
  return 1;
}

int device_of(std::int64_t place, std::int64_t count) {
  return static_cast<int>(count > 0 ? place % count : place);
}

Result<std::optional<Launch>> launch_from(const Variable& variable, std::string_view command) {
  const Names* names = launcher_of(variable);
  if (names == nullptr) {
    return std::optional<Launch>();
  }
  BV_TRY(size, number_of(variable, size_name(variable, *names), 1, kRanksMax));
  if (size == 1) {
    return std::optional<Launch>();
  }
  BV_TRY(rank, number_of(variable, names->rank, 0, size - 1));
  BV_TRY(address, address_of(variable, *names, size));
  Launch out;
  out.size = static_cast<int>(size);
  out.rank = static_cast<int>(rank);
  out.address = address;
  out.alone = run_alone(variable);
  BV_CHECK(name_run(variable, *names, command, out));
  out.port_is_taken = variable("TORCHELASTIC_USE_AGENT_STORE") == "True";
  return std::optional(out);
}

}  // namespace bv::comm
