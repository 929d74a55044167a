#pragma once
// Which world a process was started in, by the variables of its launcher.

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "core/comm/rendezvous.hpp"

namespace bv::comm {

/// The value of a variable, "" when unset.
using Variable = std::function<std::string(std::string_view)>;

/// torchrun (WORLD_SIZE, RANK, MASTER_ADDR, MASTER_PORT), else a step of srun, else mpirun (Open
/// MPI, MPICH, Intel MPI); where no address is given, that of the first node, or this host when all
/// processes are on it. Nothing for a world of one process, and where no launcher was at work: a
/// shell inside an allocation is none. Errors: BadValue for variables that contradict each other.
[[nodiscard]] Result<std::optional<Launch>> launch_from(const Variable& variable);

/// "gpu[003-007,9]-ib,login" -> "gpu003-ib"; the first host of a list as SLURM writes it.
[[nodiscard]] std::string first_host(std::string_view node_list);

}  // namespace bv::comm
