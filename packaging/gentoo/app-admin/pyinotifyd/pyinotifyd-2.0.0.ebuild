# Distributed under the terms of the GNU General Public License v3 or later

EAPI=8

PYTHON_COMPAT=( python3_{9..14} )
RUST_MIN_VER="1.89.0"
# The crates are in the second tarball of SRC_URI, so none is named here.
CRATES=""

inherit cargo python-single-r1 shell-completion systemd

DESCRIPTION="Runs tasks on filesystem events"
HOMEPAGE="https://github.com/pyinotifyd/pyinotifyd"
SRC_URI="
	https://github.com/pyinotifyd/pyinotifyd/archive/refs/tags/v${PV}.tar.gz -> ${P}.tar.gz
	https://github.com/pyinotifyd/pyinotifyd/releases/download/v${PV}/${P}-crates.tar.xz
"

LICENSE="GPL-3+"
# Licences of the crates, as pycargoebuild --license-mapping lists them.
LICENSE+=" Apache-2.0 Apache-2.0-with-LLVM-exceptions BSD MIT Unicode-3.0"
SLOT="0"
KEYWORDS="~amd64 ~arm64"
REQUIRED_USE="${PYTHON_REQUIRED_USE}"

# The program executes python3 for the configuration; it is not linked with it.
RDEPEND="${PYTHON_DEPS}"
BDEPEND="${PYTHON_DEPS}"

QA_FLAGS_IGNORED="usr/bin/pyinotifyd"

pkg_setup() {
	python-single-r1_pkg_setup
	rust_pkg_setup
}

src_compile() {
	cargo_src_compile --package pyinotifyd
}

src_test() {
	cargo_src_test --workspace
}

src_install() {
	cargo_src_install --path crates/pyinotifyd

	local share=crates/pyinotifyd/share
	newinitd ${share}/openrc/pyinotifyd.initd pyinotifyd
	newconfd ${share}/openrc/pyinotifyd.confd pyinotifyd
	systemd_dounit ${share}/systemd/pyinotifyd.service
	systemd_douserunit ${share}/systemd/user/pyinotifyd.service

	# Portage keeps a changed one: /etc is protected.
	insinto /etc/pyinotifyd
	doins ${share}/config.py

	doman ${share}/man/*
	newbashcomp ${share}/completions/pyinotifyd.bash pyinotifyd
	dozshcomp ${share}/completions/_pyinotifyd
	dofishcomp ${share}/completions/pyinotifyd.fish

	python_domodule crates/pyinotifyd/python/pyinotifyd
	dodoc README.md CHANGELOG.md ${share}/systemd/strict.conf
	docinto examples
	dodoc docs/cookbook/*.py
	docompress -x /usr/share/doc/${PF}/examples
}

pkg_postinst() {
	elog "Put your configuration into /etc/pyinotifyd/config.py, check it with"
	elog "  pyinotifyd --configtest"
	elog "and start the service with"
	elog "  rc-update add pyinotifyd default && rc-service pyinotifyd start"
}
